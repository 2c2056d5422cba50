//! Judges requests as a Firecracker would that has had the earlier ones: their bodies, and their order. More strictly in
//! one thing: what the guest writes to its serial port has to be sent somewhere else than to the log.
//!
//! ```text
//! described ──InstanceStart──▶ running ◀──PATCH /vm──▶ paused ──PUT /snapshot/create──▶ paused
//!           ──PUT /snapshot/load, first of all─▶ running, or paused
//! ```

use serde_json::Value;

use crate::description::Description;

/// A Firecracker's view of its requests.
#[derive(Debug)]
pub struct Api {
    description: Description,
    state: State,
    /// The requests that were taken: method and path, and body.
    taken: Vec<(String, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Described,
    Running,
    Paused,
}

/// Fields of the body of `PUT /snapshot/load` by which memory can be named, of which there must be one.
const MEMORY: [&str; 2] = ["mem_file_path", "mem_backend"];

impl Default for Api {
    fn default() -> Self {
        Self { description: Description::ours(), state: State::Described, taken: Vec::new() }
    }
}

impl Api {
    /// What was taken so far: method and path, and body.
    pub fn taken(&self) -> &[(String, Value)] {
        &self.taken
    }

    /// The body of the last request that was taken whose method and path begin so.
    pub fn last(&self, name: &str) -> Option<&Value> {
        self.taken.iter().rev().find(|(taken, _)| taken.starts_with(name)).map(|(_, body)| body)
    }

    /// Takes a request, by its method and path, or says why Firecracker would not.
    pub fn take(&mut self, name: &str, body: &Value) -> Result<(), String> {
        if let Some(fault) = self.description.fault(name, body) {
            return Err(fault);
        }
        self.state = self.after(name, body)?;
        self.taken.push((name.to_owned(), body.clone()));
        Ok(())
    }

    fn after(&self, name: &str, body: &Value) -> Result<State, String> {
        let refused = |reason: &str| Err(reason.to_owned());
        let before = "The requested operation is not supported before starting the microVM.";
        let after = "The requested operation is not supported after starting the microVM.";
        match (name, self.state) {
            ("PATCH /vm" | "PUT /snapshot/create", State::Described) => refused(before),
            ("PATCH /vm", _) => Ok(if body["state"] == "Paused" { State::Paused } else { State::Running }),
            ("PUT /snapshot/create", State::Running) => {
                refused("Cannot save the microVM state: it is running.")
            }
            ("PUT /snapshot/create", State::Paused) => Ok(State::Paused),
            ("PUT /actions", State::Described) if body["action_type"] == "FlushMetrics" => refused(before),
            ("PUT /actions", state) if body["action_type"] == "FlushMetrics" => Ok(state),
            (_, State::Running | State::Paused) => refused(after),
            ("PUT /snapshot/load", State::Described)
                if self.taken.iter().any(|(taken, _)| taken != "PUT /logger" && taken != "PUT /serial") =>
            {
                refused("Loading a microVM snapshot not allowed after configuring boot-specific resources.")
            }
            ("PUT /snapshot/load" | "PUT /actions", State::Described)
                if self.last("PUT /serial").is_none() =>
            {
                refused("stand-in: the guest's serial port would end in the log")
            }
            ("PUT /snapshot/load", State::Described) => {
                if MEMORY.iter().filter(|field| body.get(**field).is_some()).count() != 1 {
                    return refused("either `mem_file_path` or `mem_backend` must be there");
                }
                Ok(if body["resume_vm"] == true { State::Running } else { State::Paused })
            }
            ("PUT /actions", State::Described) => {
                if self.last("PUT /boot-source").is_none() {
                    return refused("Cannot start microvm without kernel configuration.");
                }
                Ok(State::Running)
            }
            (_, State::Described) => Ok(State::Described),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load() -> Value {
        json!({
            "snapshot_path": "/state",
            "mem_backend": { "backend_type": "File", "backend_path": "/memory" },
            "resume_vm": true,
        })
    }

    #[test]
    fn a_snapshot_is_loaded_by_the_first_request_or_not_at_all() {
        let serial = json!({ "serial_out_path": "/serial" });
        let mut api = Api::default();
        api.take("PUT /snapshot/load", &load()).unwrap_err();
        api.take("PUT /serial", &serial).unwrap();
        api.take("PUT /logger", &json!({ "level": "Warning" })).unwrap();
        api.take("PUT /snapshot/load", &load()).unwrap();
        api.take("PUT /snapshot/load", &load()).unwrap_err();
        api.take("PUT /logger", &json!({ "level": "Warning" })).unwrap_err();
        let mut api = Api::default();
        api.take("PUT /serial", &serial).unwrap();
        api.take("PUT /vsock", &json!({ "guest_cid": 3, "uds_path": "/vsock" })).unwrap();
        api.take("PUT /snapshot/load", &load()).unwrap_err();
        let mut api = Api::default();
        api.take("PUT /serial", &serial).unwrap();
        api.take("PUT /snapshot/load", &json!({ "snapshot_path": "/state" })).unwrap_err();
    }

    #[test]
    fn a_machine_is_saved_while_it_is_paused() {
        let mut api = Api::default();
        let create = json!({ "snapshot_path": "/state", "mem_file_path": "/memory" });
        let start = json!({ "action_type": "InstanceStart" });
        api.take("PUT /actions", &start).unwrap_err();
        api.take("PUT /actions", &json!({ "action_type": "FlushMetrics" })).unwrap_err();
        api.take("PUT /serial", &json!({ "serial_out_path": "/serial" })).unwrap();
        api.take("PUT /boot-source", &json!({ "kernel_image_path": "/vmlinux" })).unwrap();
        api.take("PUT /snapshot/create", &create).unwrap_err();
        api.take("PUT /actions", &start).unwrap();
        api.take("PUT /snapshot/create", &create).unwrap_err();
        api.take("PATCH /vm", &json!({ "state": "Paused" })).unwrap();
        api.take("PUT /snapshot/create", &create).unwrap();
        api.take("PUT /boot-source", &json!({ "kernel_image_path": "/vmlinux" })).unwrap_err();
        assert_eq!(api.taken().len(), 5);
    }
}
