//! CPU templates: what a guest is shown of the processor, so that it sees the same on different hosts.
//!
//! Firecracker has some built in, by name, each for a few models of one vendor; these are deprecated since its 1.5. And it
//! takes templates in JSON, as `cpu-template-helper` of its releases makes them (`docs/cpu_templates` of its sources).

use serde_json::Value;

/// The templates that Firecracker has built in for x86-64.
const BUILT_IN: [&str; 5] = ["C3", "T2", "T2A", "T2CL", "T2S"];

/// What a template in JSON may hold, on x86-64.
const FIELDS: [&str; 3] = ["kvm_capabilities", "cpuid_modifiers", "msr_modifiers"];

/// A CPU template.
#[derive(Clone, Debug, PartialEq)]
pub enum CpuTemplate {
    /// One that Firecracker has built in.
    BuiltIn(&'static str),
    /// One in Firecracker's own form: an object of JSON.
    Custom(Value),
}

/// Why a text is no CPU template.
#[derive(Debug, thiserror::Error)]
pub enum CpuTemplateError {
    /// It is not JSON.
    #[error("a CPU template is JSON")]
    Json(#[source] serde_json::Error),
    /// It is no object.
    #[error("a CPU template is an object of JSON")]
    NoObject,
    /// It has a field that there is not.
    #[error("a CPU template has no {field:?}, but {}", FIELDS.join(", "))]
    UnknownField {
        /// The field.
        field: String,
    },
}

impl CpuTemplate {
    /// The built-in template of this name.
    pub fn named(name: &str) -> Option<Self> {
        BUILT_IN.iter().find(|known| **known == name).map(|known| Self::BuiltIn(known))
    }

    /// The template that `text` holds. Firecracker judges what the fields hold when something is booted with it.
    pub fn parse(text: &[u8]) -> Result<Self, CpuTemplateError> {
        let template: Value = serde_json::from_slice(text).map_err(CpuTemplateError::Json)?;
        let fields = template.as_object().ok_or(CpuTemplateError::NoObject)?;
        match fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            Some(field) => Err(CpuTemplateError::UnknownField { field: field.clone() }),
            None => Ok(Self::Custom(template)),
        }
    }

    /// Its name, where it is built in.
    pub(super) fn built_in(&self) -> Option<&'static str> {
        match self {
            Self::BuiltIn(name) => Some(name),
            Self::Custom(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_go_by_name_or_are_objects_of_json() {
        assert_eq!(CpuTemplate::named("T2").unwrap().built_in(), Some("T2"));
        assert_eq!(CpuTemplate::named("t2"), None);
        let template = CpuTemplate::parse(br#"{ "cpuid_modifiers": [] }"#).unwrap();
        assert_eq!(template.built_in(), None);
        assert!(matches!(CpuTemplate::parse(b"T2"), Err(CpuTemplateError::Json(_))));
        assert!(matches!(CpuTemplate::parse(b"[]"), Err(CpuTemplateError::NoObject)));
        let unknown = CpuTemplate::parse(br#"{ "reg_modifiers": [] }"#).unwrap_err();
        assert!(unknown.to_string().contains("reg_modifiers"), "{unknown}");
    }
}
