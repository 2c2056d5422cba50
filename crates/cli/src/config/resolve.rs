//! From flags, environment, file and defaults to one value for each key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    fault::{Fault, Origin, nearest},
    file::{self, Environment, Source},
    key::{Key, Value},
    table,
};
use crate::settings::Flags;

/// What the names of all variables begin with that are ours.
const PREFIX: &str = "LLM_FIRECRACKER_";

/// A key's value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The value.
    pub(crate) value: Value,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// What was found.
pub(crate) struct Resolution {
    /// The value of each key, by its name. Where a place had a fault about a key, the next one's.
    pub(crate) entries: BTreeMap<&'static str, Entry>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// What has to be mended.
    pub(crate) faults: Vec<Fault>,
    /// What can stay, but was hardly meant so.
    pub(crate) warnings: Vec<Fault>,
}

/// Looks everywhere, and at everything: what a flag says does not keep faults of the file from being found.
pub(crate) fn resolve(flags: &Flags, environment: &Environment, source: &Source) -> Resolution {
    let mut layers = Layers::default();
    layers.defaults();
    let file = layers.file(source);
    layers.environment(environment);
    layers.flags(flags);
    layers.compare();
    Resolution {
        entries: layers.entries,
        file,
        faults: layers.faults,
        warnings: unknown_variables(environment),
    }
}

/// What a file with this text comes to by itself, for `fuzz/`.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_resolve(text: &str) -> Resolution {
    let path = PathBuf::from("config.toml");
    let mut layers = Layers::default();
    layers.defaults();
    layers.text(&path, text);
    layers.compare();
    let Layers { entries, faults } = layers;
    Resolution { entries, file: Some(path), faults, warnings: Vec::new() }
}

/// Values as they are laid over each other.
#[derive(Default)]
struct Layers {
    entries: BTreeMap<&'static str, Entry>,
    faults: Vec<Fault>,
}

impl Layers {
    fn put(&mut self, key: &Key, value: Result<Value, String>, origin: Origin) {
        match value {
            Ok(value) => {
                self.entries.insert(key.name, Entry { value, origin });
            }
            Err(problem) => self.faults.push(Fault::new(origin, key.name.to_owned(), problem)),
        }
    }

    fn defaults(&mut self) {
        for key in table::keys() {
            self.put(key, Ok(key.default()), Origin::Default);
        }
    }

    fn file(&mut self, source: &Source) -> Option<PathBuf> {
        match source.read() {
            Ok(None) => None,
            Ok(Some((path, text))) => {
                self.text(path, &text);
                Some(path.to_owned())
            }
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    /// What a file says.
    fn text(&mut self, path: &Path, text: &str) {
        let contents = file::parse(path, text);
        self.faults.extend(contents.faults);
        for (key, value, origin) in contents.values {
            self.put(key, Ok(value), origin);
        }
    }

    fn environment(&mut self, environment: &Environment) {
        for key in table::keys() {
            // Not judged here: a variable of other programs that is wrong must not stop what does not use it.
            for name in key.foreign.iter().rev() {
                if let Some(text) = environment.get(name).and_then(|value| value.to_str()) {
                    let origin = Origin::Environment((*name).to_owned());
                    self.put(key, Ok(Value::Text(text.to_owned())), origin);
                }
            }
            let name = key.variable();
            if let Some(words) = environment.get(&name) {
                self.put(key, key.of_words(words), Origin::Environment(name));
            }
        }
    }

    fn flags(&mut self, flags: &Flags) {
        for assignment in &flags.set {
            let origin = Origin::Flag("--set".to_owned());
            let Some((name, text)) = assignment.split_once('=').map(|(name, text)| (name.trim(), text))
            else {
                // Not repeated: it may be a secret that was meant for another flag.
                let problem = "is written SECTION.KEY=VALUE, as in --set api.port=8081";
                self.faults.push(Fault::new(origin, None, problem));
                continue;
            };
            if let Some(key) = table::find(name) {
                self.put(key, key.of_flag(text.trim()), origin);
            } else {
                let fault = Fault::new(origin, name.to_owned(), "there is no such key");
                self.faults.push(fault.hint(file::suggestion(name)));
            }
        }
        for (name, value) in flags.of_keys() {
            if let (Some(value), Some(key)) = (value, table::find(name)) {
                self.put(key, Ok(value.clone()), Origin::Flag(key.flag.unwrap_or(name).to_owned()));
            }
        }
        for (flag, name, value) in flags.of_command() {
            if let Some(key) = table::find(name) {
                self.put(key, Ok(value.clone()), Origin::Flag((*flag).to_owned()));
            }
        }
    }

    /// Faults of two values that each are right.
    fn compare(&mut self) {
        let (Some(minimum), Some(maximum)) =
            (self.entries.get("pool.minimum"), self.entries.get("pool.maximum"))
        else {
            return;
        };
        let (Value::Number(least), Value::Number(most)) = (&minimum.value, &maximum.value) else { return };
        if least > most {
            // Said of the one that somebody has changed.
            let (entry, key) = if minimum.origin == Origin::Default {
                (maximum, "pool.maximum")
            } else {
                (minimum, "pool.minimum")
            };
            let problem = format!("pool.minimum ({least}) is more than pool.maximum ({most})");
            self.faults.push(Fault::new(entry.origin.clone(), key.to_owned(), problem));
        }
    }
}

/// Variables that begin as ours do, and mean nothing.
fn unknown_variables(environment: &Environment) -> Vec<Fault> {
    let mut known: Vec<String> = table::keys().map(Key::variable).collect();
    known.push(file::VARIABLE.to_owned());
    let unknown = environment.names().filter(|name| name.starts_with(PREFIX));
    let mut faults: Vec<Fault> = unknown
        .filter(|name| !known.iter().any(|known| known == name))
        .map(|name| {
            let rest = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
            let hint = nearest(&rest(name), known.iter().map(|known| rest(known)))
                .map(|rest| format!("did you mean {PREFIX}{rest}?"));
            let origin = Origin::Environment(name.to_owned());
            Fault::new(origin, None, "no key is read from it").hint(hint)
        })
        .collect();
    faults.sort_by_key(|fault| fault.origin.to_string());
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A configuration file, variables and assignments.
    fn found(text: &str, variables: &[(&str, &str)], set: &[&str]) -> Resolution {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let flags = Flags::setting(set);
        let source = Source::Usual(file.path().to_owned());
        let mut found = resolve(&flags, &Environment::of(variables), &source);
        // So that tests can name it.
        for origin in found
            .entries
            .values_mut()
            .map(|entry| &mut entry.origin)
            .chain(found.faults.iter_mut().map(|fault| &mut fault.origin))
        {
            if let Origin::File(path, _) = origin {
                *path = "config.toml".into();
            }
        }
        found
    }

    fn faults(text: &str, variables: &[(&str, &str)], set: &[&str]) -> Vec<String> {
        found(text, variables, set).faults.iter().map(ToString::to_string).collect()
    }

    fn told(found: &Resolution, key: &str) -> String {
        let entry = &found.entries[key];
        format!("{} from {}", entry.value, entry.origin)
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
        let file = "\n[api]\nport = 1\n[vmm]\nqemu = \"/file\"\n[storage]\nregion = \"file\"\n";
        let variables = [
            ("LLM_FIRECRACKER_API_PORT", "2"),
            ("LLM_FIRECRACKER_QEMU", "environment"),
            ("AWS_REGION", "aws"),
            ("AWS_DEFAULT_REGION", "default"),
        ];
        let told_of = |file: &str, variables: &[(&str, &str)], set: &[&str]| {
            let found = found(file, variables, set);
            ["api.port", "vmm.qemu", "storage.region"].map(|key| told(&found, key))
        };
        assert_eq!(
            told_of("", &[], &[]),
            ["8080 from default", "\"auto\" from default", "\"auto\" from default"]
        );
        let of_file = ["1 from config.toml:3", "\"/file\" from config.toml:5", "\"file\" from config.toml:7"];
        assert_eq!(told_of(file, &[], &[]), of_file);
        let empty = [("LLM_FIRECRACKER_API_PORT", ""), ("LLM_FIRECRACKER_QEMU", ""), ("AWS_REGION", "")];
        assert_eq!(told_of(file, &empty, &[]), of_file);
        assert_eq!(
            told_of(file, &variables, &[]),
            [
                "2 from environment LLM_FIRECRACKER_API_PORT",
                "\"environment\" from environment LLM_FIRECRACKER_QEMU",
                "\"aws\" from environment AWS_REGION"
            ]
        );
        let ours = [&variables[..], &[("LLM_FIRECRACKER_STORAGE_REGION", "ours")]].concat();
        assert_eq!(
            told_of(file, &ours, &["api.port=3", "api.port = 4", "vmm.qemu=flag"]),
            [
                "4 from flag --set",
                "\"flag\" from flag --set",
                "\"ours\" from environment LLM_FIRECRACKER_STORAGE_REGION"
            ]
        );
    }

    #[test]
    fn a_flag_of_its_own_wins_over_an_assignment() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Arguments {
            #[command(flatten)]
            flags: Flags,
        }
        let line = ["test", "--slots", "3", "--set", "vmm.slots=4", "--set", "vmm.slot_wait=5"];
        let flags = Arguments::try_parse_from(line).unwrap().flags;
        let found = resolve(&flags, &Environment::of(&[]), &Source::Nowhere);
        assert_eq!(told(&found, "vmm.slots"), "3 from flag --slots");
        assert_eq!(told(&found, "vmm.slot_wait"), "5 from flag --set");
    }

    #[test]
    fn all_faults_are_told_at_once_each_with_its_line_and_what_was_meant() {
        let file = "port = 1
[api]
prot = 8080
host = \"everywhere\"
port = 65_536

[pol]
minimum = 1

[pool]
minimum = -1
memory = \"8 GiB\"
port = 3
running = [1]

[storage]
aws_secret_access_key = \"hidden\"
endpoint = \"https://user:hidden@s3.example\"
";
        let told =
            faults(file, &[("LLM_FIRECRACKER_SLOTS", "many")], &["queue.lenght=1", "pool", "log.level=\"\""]);
        assert_eq!(
            told,
            [
                "config.toml:1: port: there is no such key outside of all sections (did you mean api.port?)",
                "config.toml:3: api.prot: there is no such key (did you mean api.port?)",
                "config.toml:4: api.host: this is no IP address, as in \"127.0.0.1\", \"0.0.0.0\" (all of IPv4) or \
                 \"::\" (all)",
                "config.toml:5: api.port: 65536 is not allowed: give a whole number from 0 to 65535",
                "config.toml:7: pol: there is no such section (did you mean [pool]?)",
                "config.toml:11: pool.minimum: -1 is not allowed: give a whole number from 0 to 10000",
                "config.toml:12: pool.memory: \"8 GiB\" is not allowed: give a whole number of MiB from 128 to \
                 16777216, or \"auto\"",
                "config.toml:13: pool.port: there is no such key (did you mean api.port?)",
                "config.toml:14: pool.running: an array is not allowed: give a whole number from 1 to 10000, or \
                 \"auto\"",
                "config.toml:17: storage.aws_secret_access_key: there is no such key (credentials do not belong here: \
                 give them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or name a profile with \
                 storage.profile)",
                "config.toml:18: storage.endpoint: an endpoint has no credentials or parameters in it",
                "environment LLM_FIRECRACKER_SLOTS: vmm.slots: many is not allowed: give a whole number from 1 to \
                 10000, or \"auto\"",
                "flag --set: queue.lenght: there is no such key (did you mean queue.length?)",
                "flag --set: is written SECTION.KEY=VALUE, as in --set api.port=8081",
                "flag --set: log.level: \"\" is none of error, warn, info, debug and trace",
            ]
        );
        assert!(!told.join("").contains("hidden"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_lines_beside_other_faults() {
        let told =
            faults("[api]\nport = \n[pool]\nminimun = 1\n[log]\nlevel = \"info\nformat = 1\n", &[], &[]);
        let lines: Vec<&str> = told.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        assert_eq!(
            lines,
            ["config.toml:2:", "config.toml:4:", "config.toml:6:", "config.toml:7:"],
            "{told:?}"
        );
        assert_eq!(faults("[api]\nport = 1\nport = 2\n", &[], &[]).len(), 1);
        assert!(faults("[[api]]\nport = 1\n", &[], &[])[0].starts_with("config.toml:1: api: "));
        assert!(
            faults("[api.tls]\nkey = 1\n", &[], &[])[0].starts_with("config.toml:1: api.tls: there is no")
        );
        assert!(faults("[vmm]\nqemu = \"qemu\"\n", &[], &[])[0].contains("no absolute path"));
        assert!(faults("a\0b", &[], &[])[0].starts_with("config.toml:1: "));
    }

    #[test]
    fn ranges_hold_wherever_a_value_comes_from() {
        for (key, wrong, right) in [
            ("limits.timeout", "301", "300"),
            ("limits.timeout", "0", "1"),
            ("vmm.slots", "10001", "10000"),
            ("vmm.first_uid", "999", "1000"),
            ("api.require_tokens", "1", "true"),
            ("log.format", "yaml", "json"),
            ("log.level", "inof", "info,engine=debug"),
            ("log.level", "info,engine=loud", "off"),
            ("registry.mirrors", "ftp://x", "https://x.example,docker.io=http://127.0.0.1:5000"),
            ("telemetry.otlp_endpoint", "collector", "http://127.0.0.1:4318"),
            ("storage.bucket", "A", "file:///srv/bucket"),
        ] {
            let variable = table::find(key).unwrap().variable();
            let set = |value: &str| faults("", &[], &[&format!("{key}={value}")]);
            let variable = |value: &str| faults("", &[(&variable, value)], &[]);
            assert_eq!((set(wrong).len(), variable(wrong).len()), (1, 1), "{key} {wrong}");
            assert_eq!((set(right), variable(right)), (vec![], vec![]), "{key} {right}");
        }
        assert_eq!(faults("[pool]\nminimum = 17\n", &[], &[]).len(), 1);
        let both = faults("[pool]\nmaximum = 4\n", &[("LLM_FIRECRACKER_POOL_MINIMUM", "5")], &[]);
        assert_eq!(
            both,
            [
                "environment LLM_FIRECRACKER_POOL_MINIMUM: pool.minimum: pool.minimum (5) is more than pool.maximum (4)"
            ]
        );
        assert!(faults("[pool]\nmaximum = 0\n", &[], &[])[0].starts_with("config.toml:2: pool.maximum: "));
    }

    #[test]
    fn assignments_are_toml_or_words() {
        let set = |assignment: &str| {
            let found = found("", &[], &[assignment]);
            let key = assignment.split('=').next().unwrap();
            if found.faults.is_empty() { found.entries[key].value.clone() } else { Value::Auto }
        };
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(set("telemetry.service_name=1.5"), text("1.5"));
        assert_eq!(set("telemetry.service_name=true"), text("true"));
        assert_eq!(set("telemetry.service_name=\"a=b\""), text("a=b"));
        assert_eq!(set("storage.region=us-east-1"), text("us-east-1"));
        assert_eq!(set("api.port=0x50"), Value::Number(80));
        assert_eq!(set("api.require_tokens=false"), Value::Switch(false));
        assert_eq!(set("vmm.qemu=./qemu"), Value::Path("./qemu".into()));
        assert_eq!(set("vmm.qemu='a b'"), Value::Path("a b".into()));
        let mirrors = Value::List(vec!["https://a.example".to_owned(), "https://b.example".to_owned()]);
        assert_eq!(set("registry.mirrors=[\"https://a.example\", \"https://b.example\"]"), mirrors);
        assert_eq!(set("registry.mirrors=https://a.example, https://b.example"), mirrors);
    }

    #[test]
    fn variables_that_mean_nothing_are_warnings() {
        let variables = [
            ("LLM_FIRECRACKER_API_PROT", "1"),
            ("LLM_FIRECRACKER_XYZZY", "1"),
            ("LLM_FIRECRACKER_SLOTS", "1"),
            ("LLM_FIRECRACKER_CONFIG", ""),
            ("PATH", "/bin"),
        ];
        let found = found("", &variables, &[]);
        assert!(found.faults.is_empty());
        let warnings: Vec<String> = found.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "environment LLM_FIRECRACKER_API_PROT: no key is read from it (did you mean \
                 LLM_FIRECRACKER_API_PORT?)",
                "environment LLM_FIRECRACKER_XYZZY: no key is read from it",
            ]
        );
    }

    #[test]
    fn a_named_file_has_to_be_there_and_the_usual_one_need_not() {
        let missing = Path::new("/nowhere/config.toml");
        let faults = |flag: Option<&Path>, variables: &[(&str, &str)], is_root: bool| {
            let environment = Environment::of(variables);
            let source = Source::choose(flag, &environment, is_root);
            let found = resolve(&Flags::default(), &environment, &source);
            found.faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let named = faults(Some(missing), &[("LLM_FIRECRACKER_CONFIG", "/dev/null")], true);
        assert!(named[0].starts_with("/nowhere/config.toml: cannot be read: No such file"), "{named:?}");
        let named = faults(None, &[("LLM_FIRECRACKER_CONFIG", "/nowhere/config.toml")], true);
        assert!(named[0].ends_with("(LLM_FIRECRACKER_CONFIG names it)"), "{named:?}");
        assert!(faults(Some(Path::new("/dev/zero")), &[], true)[0].contains("longer than"));
        assert!(faults(None, &[("XDG_CONFIG_HOME", "/nowhere")], false).is_empty());
        assert!(faults(None, &[], false).is_empty());
    }

    #[test]
    fn the_usual_file_is_that_of_root_or_of_the_user() {
        let usual = |variables: &[(&str, &str)], is_root: bool| match Source::choose(
            None,
            &Environment::of(variables),
            is_root,
        ) {
            Source::Usual(path) => path.display().to_string(),
            _ => String::new(),
        };
        let both = [("XDG_CONFIG_HOME", "/x"), ("HOME", "/home/a")];
        assert_eq!(usual(&both, true), "/etc/llm-firecracker/config.toml");
        assert_eq!(usual(&both, false), "/x/llm-firecracker/config.toml");
        assert_eq!(
            usual(&[("XDG_CONFIG_HOME", "x"), ("HOME", "/home/a")], false),
            "/home/a/.config/llm-firecracker/config.toml"
        );
    }

    #[test]
    fn a_file_that_is_nothing_but_faults_is_judged_at_once() {
        let keys: Vec<_> = (0..40_000).map(|number| format!("x{number} = 1\n")).collect();
        let keys = keys.concat();
        let started = std::time::Instant::now();
        let found = found(&format!("{keys}[api]\n{keys}"), &[], &[]);
        assert_eq!(found.faults.len(), 80_000);
        assert_eq!(found.faults[79_999].row().line, Some(80_001));
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    }

    #[test]
    fn variables_of_other_programs_are_judged_only_where_they_are_used() {
        let found = found("", &[("AWS_ENDPOINT_URL", "127.0.0.1:9000")], &[]);
        assert_eq!(told(&found, "storage.endpoint"), "\"127.0.0.1:9000\" from environment AWS_ENDPOINT_URL");
        assert!(Config::of(found).is_ok());
    }
}
