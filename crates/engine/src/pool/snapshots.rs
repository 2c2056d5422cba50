//! Which snapshots can be restored, as they come and go: made, downloaded, replaced and removed by commands beside the
//! service.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use images::Quiet;

use super::{driver::Shared, state::PoolKey};
use crate::snapshots::machine;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(2);

/// The snapshots that can be restored, each with what tells it from another of the same kind.
#[derive(Debug, Default)]
pub(super) struct Identities(BTreeMap<PoolKey, String>);

impl Identities {
    /// Their kinds.
    pub(super) fn usable(&self) -> impl Iterator<Item = &PoolKey> + Clone {
        self.0.keys()
    }

    /// Those that are other ones than before.
    pub(super) fn changed_since(&self, before: &Self) -> BTreeSet<PoolKey> {
        let changed = self.0.iter().filter(|(key, now)| before.0.get(key).is_some_and(|was| was != *now));
        changed.map(|(key, _)| key.clone()).collect()
    }
}

/// Looks again and again.
pub(super) async fn keep_looking(shared: Arc<Shared>) {
    let mut told = BTreeMap::new();
    loop {
        match look(&shared).await {
            Ok((found, problems)) => {
                for (key, (reason, command)) in &problems {
                    if told.get(key) != Some(reason) {
                        let PoolKey { language, machine } = key;
                        let (memory_mib, hint) = (machine.memory_mib, format!("run: {command}"));
                        tracing::warn!(%language, memory_mib, reason, hint, "a snapshot cannot be restored");
                    }
                }
                told = problems.into_iter().map(|(key, (reason, _))| (key, reason)).collect();
                shared.found(found);
            }
            // Those that are known stay known: a restore says what is wrong with them.
            Err(error) => tracing::warn!(error = crate::error::chain(&error), "cannot list the snapshots"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shared.look.notified() => {}
        }
    }
}

/// Why a snapshot cannot be restored, and the command that mends it.
type Problem = (String, String);

async fn look(
    shared: &Shared,
) -> Result<(Identities, BTreeMap<PoolKey, Problem>), store::snapshot::CatalogueError> {
    let (mut found, mut problems) = (BTreeMap::new(), BTreeMap::new());
    for entry in shared.engine.catalogue().list()? {
        let key = PoolKey { language: entry.language.clone(), machine: machine(entry.size) };
        // What nobody can ask for need not wait.
        if shared.engine.languages().find(key.language.as_str()).is_none() {
            continue;
        }
        let status = shared.engine.check_snapshot(entry, false, Arc::new(Quiet)).await;
        match (status.problem, &status.entry.manifest) {
            (None, Ok(manifest)) => {
                found.insert(key, format!("{}-{}", manifest.device_state.sha256, manifest.memory.sha256));
            }
            (Some(problem), _) => {
                problems.insert(key, (crate::error::chain(&problem), problem.command()));
            }
            (None, Err(_)) => {}
        }
    }
    Ok((Identities(found), problems))
}
