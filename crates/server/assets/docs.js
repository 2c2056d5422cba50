// Shows the OpenAPI document of the service that this page comes from, and tries requests.
// Everything from the document and from answers is shown as text: nothing is ever parsed as HTML.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
let description = {};

function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// What a `$ref` stands for.
function resolve(part) {
  if (!part || !part.$ref) return part ?? {};
  const steps = part.$ref.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((where, step) => where?.[step], description) ?? {};
}

function nameOf(schema) {
  return schema?.$ref?.split("/").pop();
}

// Texts have `code` in backquotes.
function prose(text) {
  const parts = (text ?? "").split("`");
  return parts.map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function typeOf(schema) {
  const name = nameOf(schema);
  schema = resolve(schema);
  if (schema.oneOf || schema.anyOf) return (schema.oneOf ?? schema.anyOf).map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.length > 12 ? `one of ${schema.enum.length}` : schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [schema.type ?? (schema.properties || schema.allOf ? "object" : "anything")].flat();
  const shown = types.map((type) => (type === "array" ? `list of ${typeOf(schema.items ?? {})}` : type));
  return (name ? `${name}: ` : "") + shown.join(" or ");
}

function boundsOf(schema) {
  const bounds = [];
  const say = (key, text) => { if (schema[key] !== undefined && schema[key] !== null) bounds.push(`${text} ${schema[key]}`); };
  say("minimum", "at least"); say("maximum", "at most"); say("minLength", "characters, at least");
  say("maxLength", "characters, at most"); say("minItems", "items, at least"); say("maxItems", "items, at most");
  say("format", "format"); say("default", "default"); say("pattern", "pattern");
  return bounds.join("; ");
}

// A schema as nested lists of fields. `above` are those that it is part of.
function schemaView(schema, above = []) {
  const name = nameOf(schema);
  if (name && above.includes(name)) return [make("p", { className: "soft" }, `${name} again`)];
  const path = name ? [...above, name] : above;
  schema = resolve(schema);
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (schema.properties === undefined && alternatives) {
    return alternatives.filter((one) => one.type !== "null").flatMap((one) => [make("p", { className: "soft" }, typeOf(one)), ...schemaView(one, path)]);
  }
  if (schema.allOf) return schema.allOf.flatMap((one) => schemaView(one, path));
  if (schema.items) return schemaView(schema.items, path);
  return Object.entries(schema.properties ?? {}).map(([field, value]) => {
    const known = resolve(value);
    const required = (schema.required ?? []).includes(field);
    return make("div", { className: "field" },
      make("code", {}, field), " ", make("span", { className: "soft" }, `${typeOf(value)}${required ? ", always" : ""}`),
      make("div", {}, ...prose(known.description ?? value.description)),
      boundsOf(known) && make("small", {}, boundsOf(known)), ...schemaView(value, path));
  });
}

function exampleOf(schema, depth = 0) {
  schema = resolve(schema);
  if (schema.example !== undefined) return schema.example;
  if (schema.default !== undefined) return schema.default;
  const first = (schema.oneOf ?? schema.anyOf ?? []).find((one) => one.type !== "null");
  if (first && !schema.properties) return exampleOf(first, depth);
  if (schema.enum) return schema.enum[0];
  if (depth > 6) return null;
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((one) => exampleOf(one, depth + 1)));
  if (schema.properties) {
    const required = schema.required ?? [];
    const shown = Object.entries(schema.properties).filter(([field, value]) => required.includes(field) || resolve(value).example !== undefined);
    return Object.fromEntries(shown.map(([field, value]) => [field, exampleOf(value, depth + 1)]));
  }
  switch ([schema.type].flat()[0]) {
    case "array": return [exampleOf(schema.items, depth + 1)];
    case "integer": case "number": return schema.minimum ?? 0;
    case "boolean": return false;
    case "object": return {};
    default: return "";
  }
}

function jsonOf(content) {
  return content?.["application/json"];
}

function bodySchema(operation) {
  const schema = jsonOf(operation.requestBody?.content)?.schema;
  return schema?.oneOf?.find((one) => one.type !== "null") ?? schema;
}

function responsesView(operation) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, response]) => {
    response = resolve(response);
    const schema = jsonOf(response.content)?.schema;
    const fields = schema ? schemaView(schema) : [];
    const more = fields.length > 0 && make("details", {}, make("summary", {}, typeOf(schema)), ...fields);
    return make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, ...prose(response.description), more || ""));
  });
  return make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Status"), make("th", { scope: "col" }, "Meaning"))), make("tbody", {}, ...rows));
}

function shellWord(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// The request that a form describes.
function requestOf(method, path, form) {
  const query = new URLSearchParams();
  let url = path;
  for (const input of form.querySelectorAll("[data-in]")) {
    if (input.dataset.in === "path") url = url.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.append(input.name, input.value);
  }
  if (query.size > 0) url += `?${query}`;
  const body = form.querySelector("textarea")?.value;
  const headers = method === "post" ? { "Content-Type": "application/json" } : {};
  return { url, method: method.toUpperCase(), headers, body };
}

function curlOf({ url, method, headers, body }) {
  const words = ["curl"];
  if (method !== "GET") words.push("-X", method);
  if (document.getElementById("token").value) words.push("-H", '"Authorization: Bearer $TOKEN"');
  for (const [name, value] of Object.entries(headers)) words.push("-H", shellWord(`${name}: ${value}`));
  if (body) words.push("-d", shellWord(body));
  return [...words, shellWord(location.origin + url)].join(" ");
}

async function send(request, output) {
  output.textContent = "Waiting …";
  const token = document.getElementById("token").value;
  if (token) request.headers.Authorization = `Bearer ${token}`;
  try {
    const since = performance.now();
    const response = await fetch(request.url, { ...request, body: request.body || undefined, credentials: "omit" });
    const text = await response.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* Not JSON: shown as it is. */ }
    const where = response.headers.get("location");
    output.textContent = `${response.status} ${response.statusText}, ${Math.round(performance.now() - since)} ms\n${where ? `Location: ${where}\n` : ""}\n${shown}`;
  } catch (error) {
    output.textContent = `No answer: ${error.message}`;
  }
}

function tryView(method, path, operation, id) {
  const inputs = (operation.parameters ?? []).map((parameter) => {
    const known = resolve(parameter.schema);
    const input = make("input", { name: parameter.name, id: `${id}-${parameter.name}`, required: parameter.required === true,
      placeholder: String(parameter.example ?? known.example ?? ""), value: parameter.required ? String(parameter.example ?? known.example ?? "") : "",
      dataset: { in: parameter.in } });
    return make("div", {}, make("label", { htmlFor: input.id }, make("code", {}, parameter.name), parameter.required ? "" : " (may be empty)"), input,
      make("div", { className: "soft" }, ...prose(parameter.description)));
  });
  const schema = bodySchema(operation);
  const body = schema && make("textarea", { id: `${id}-body`, spellcheck: false, value: JSON.stringify(exampleOf(schema), null, 2) });
  const curl = make("pre", { tabIndex: 0, ariaLabel: "The same with curl" });
  const output = make("pre", { tabIndex: 0, ariaLive: "polite", ariaLabel: "Answer", hidden: true });
  const form = make("form", { className: "try" }, ...inputs, body ? make("label", { htmlFor: body.id }, "Body") : "", body ?? "",
    make("p", {}, make("button", {}, "Send")));
  const update = () => { curl.textContent = curlOf(requestOf(method, path, form)); };
  form.addEventListener("input", update);
  document.getElementById("token").addEventListener("input", update);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    output.hidden = false;
    send(requestOf(method, path, form), output);
  });
  update();
  return [make("h3", {}, "Try it"), form, output, make("h3", {}, "With curl"), curl];
}

function operationView(method, path, operation) {
  const id = operation.operationId ?? `${method}${path}`;
  const schema = bodySchema(operation);
  const inside = make("div", { className: "inside" });
  const view = make("details", { className: "operation", id, dataset: { words: `${method} ${path} ${operation.summary ?? ""} ${operation.description ?? ""}`.toLowerCase() } },
    make("summary", {}, make("span", { className: `method ${method}` }, method), make("code", {}, path), " ", make("span", { className: "soft" }, ...prose(operation.summary ?? operation.description))), inside);
  // Made when it is first looked at.
  view.addEventListener("toggle", () => {
    if (!view.open || inside.childElementCount > 0) return;
    history.replaceState(null, "", `#${id}`);
    if (operation.description) inside.append(make("p", {}, ...prose(operation.description)));
    if (schema) inside.append(make("h3", {}, "Body"), ...schemaView(schema));
    inside.append(make("h3", {}, "Answers"), responsesView(operation), ...tryView(method, path, operation, id));
  });
  return view;
}

function show() {
  document.getElementById("title").textContent = `${description.info.title} ${description.info.version}`;
  document.getElementById("description").textContent = description.info.description ?? "";
  const groups = new Map((description.tags ?? []).map((tag) => [tag.name, { about: tag.description, views: [] }]));
  for (const [path, item] of Object.entries(description.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const tag = item[method].tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, { views: [] });
      groups.get(tag).views.push(operationView(method, path, item[method]));
    }
  }
  const used = [...groups].filter(([, group]) => group.views.length > 0);
  document.getElementById("tags").append(make("ul", {}, ...used.map(([tag]) => make("li", {}, make("a", { href: `#tag-${tag}` }, tag)))));
  document.getElementById("operations").replaceChildren(...used.map(([tag, group]) =>
    make("section", {}, make("h2", { id: `tag-${tag}` }, tag), make("p", { className: "soft" }, group.about ?? ""), ...group.views)));
  const named = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) named.open = true;
  if (named) named.scrollIntoView();
}

function filter(words) {
  for (const section of document.querySelectorAll("main section")) {
    const views = [...section.querySelectorAll("details.operation")];
    for (const view of views) view.hidden = !words.every((word) => view.dataset.words.includes(word));
    section.hidden = views.every((view) => view.hidden);
  }
}

document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value.toLowerCase().split(/\s+/).filter(Boolean)));
fetch("/api/v1/openapi.json").then((response) => response.json()).then((document) => { description = document; show(); })
  .catch((error) => { document.getElementById("loading").textContent = `The description cannot be shown: ${error.message}`; });
