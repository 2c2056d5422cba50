//! Which versions of languages there are: a program in a microVM says it, once for each image.

use std::collections::HashMap;

use engine::{
    Answer, LanguageSpec, Request,
    pool::{Admission, Pool, Tenant},
    request::Parts,
};
use nodejs_semver::Version;
use store::Language;
use tokio::sync::Mutex;
use uuid::Uuid;
use vmm::spec::MachineSpec;

use crate::error::ApiError;

/// How long the program may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A language that has an image.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// The language.
    pub(crate) language: LanguageSpec,
    /// Its version.
    pub(crate) version: Version,
}

/// What is known of versions.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<Language, Known>>);

#[derive(Debug)]
struct Known {
    /// Of the image.
    identity: engine::ImageIdentity,
    version: Version,
}

impl Versions {
    /// All languages that can be run. The first time after an image was made, a microVM is asked.
    pub(crate) async fn runtimes(&self, pool: &Pool, usual: MachineSpec) -> Result<Vec<Runtime>, ApiError> {
        let mut known = self.0.lock().await;
        let mut runtimes = Vec::new();
        for language in pool.engine().languages().iter() {
            let Some(identity) = pool.engine().image_identity(&language.name) else { continue };
            let version = match known.get(&language.name) {
                Some(known) if known.identity == identity => known.version.clone(),
                _ => {
                    let version = asked(pool, language, usual).await?;
                    known.insert(language.name.clone(), Known { identity, version: version.clone() });
                    version
                }
            };
            runtimes.push(Runtime { language: language.clone(), version });
        }
        Ok(runtimes)
    }
}

/// What the language's own program says.
async fn asked(pool: &Pool, language: &LanguageSpec, usual: MachineSpec) -> Result<Version, ApiError> {
    let program = language.version_program.as_str().into();
    let request = Request::of_parts(Parts {
        files: vec![engine::request::File { name: language.main_file.clone(), content: program }],
        language: language.clone(),
        main_file: None,
        args: Vec::new(),
        stdin: String::new(),
        timeout: PATIENCE,
        memory_mib: None,
        fetch: Vec::new(),
    })?;
    let machine = pool.machine_for(&language.name, None, usual);
    let admission = Admission {
        tenant: Tenant("versions".into()),
        machine,
        trace_id: Uuid::now_v7().simple().to_string(),
    };
    let outcome = pool.run(&request, admission).await.map_err(ApiError::Pool)?;
    let said = match outcome.answer {
        Answer::One(execution) => execution.stdout,
        Answer::Batch(_) | Answer::Failed(_) => String::new(),
    };
    Version::parse(said.trim()).map_err(|_| {
        ApiError::Internal(format!("the image of {} does not tell its version: {said:?}", language.name))
    })
}
