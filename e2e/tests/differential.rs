//! A program cannot tell whether it runs in the initialised interpreter or in a process of its own.

use std::{fs, sync::Arc};

use e2e::{
    TestHost,
    differential::{Program, programs},
};

/// How many programs are compared at a time: as many as there are slots.
const AT_A_TIME: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn programs_behave_the_same_in_the_initialised_interpreter_and_in_a_process_of_their_own() {
    let engine = Arc::new(TestHost::prepared().engine());
    let mut directories: Vec<_> = fs::read_dir(programs())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("main.py").is_file())
        .collect();
    directories.sort();
    // By name, for work on one of them.
    if let Ok(only) = std::env::var("DIFFERENTIAL_ONLY") {
        directories.retain(|directory| directory.to_string_lossy().contains(&only));
    } else {
        assert!(directories.len() >= 60, "only {} programs", directories.len());
    }
    let turns = Arc::new(tokio::sync::Semaphore::new(AT_A_TIME));
    let mut running = Vec::new();
    for directory in directories {
        let (engine, turns) = (Arc::clone(&engine), Arc::clone(&turns));
        running.push(tokio::spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let program = Program::read(&directory).unwrap();
            match program.run_both_ways(&engine).await {
                Ok((initialised, fresh)) if initialised == fresh => None,
                Ok((initialised, fresh)) => {
                    Some(format!("== {}\ninitialised: {initialised:#?}\nfresh: {fresh:#?}", program.name))
                }
                Err(error) => Some(format!("== {}: {error:#}", program.name)),
            }
        }));
    }
    let count = running.len();
    let mut different = Vec::new();
    for program in running {
        different.extend(program.await.unwrap());
    }
    assert!(different.is_empty(), "{} of {count} differ:\n{}", different.len(), different.join("\n"));
}
