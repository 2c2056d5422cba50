//! The service under a service manager: on a socket that outlives it, and telling how it fares.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    TestHost, eventually,
    running::Running,
    service::{Service, Target},
    service_manager::Manager,
};
use rustix::process::Signal;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the clients, also where a test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_connects_while_the_service_starts_anew_is_neither_refused_nor_cut_off() {
    const RESTARTS: usize = 3;
    /// Enough that some connection is in every state when the service ends.
    const CLIENTS: usize = 4;
    let host = TestHost::prepared().copy();
    let manager = Manager::listening("127.0.0.1").unwrap();
    let mut service = manager.start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    let (target, over) = (Target { address: manager.address(), token: None }, AtomicBool::new(false));
    let answered = AtomicUsize::new(0);
    let (failed, service) = thread::scope(|scope| {
        let ending = Ending(&over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (over, answered) = (&over, &answered);
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    for number in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        // Some of them run for a while, some are over at once.
                        let code = format!("import time\ntime.sleep({client} / 10)\nprint({number})");
                        let body = json!({ "language": "python", "code": code }).to_string();
                        match target.ask("POST", "/api/v1/run", &body) {
                            Ok(response)
                                if response.status == 200
                                    && response.json()["stdout"] == format!("{number}\n") =>
                            {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(response) => failed.push(format!("{response:?}")),
                            Err(error) => failed.push(format!("{error:#}")),
                        }
                    }
                    failed
                })
            })
            .collect();
        for _ in 0..RESTARTS {
            let before = answered.load(Ordering::Relaxed);
            eventually("requests are answered", PATIENCE, || {
                answered.load(Ordering::Relaxed) >= before + 2 * CLIENTS
            })
            .unwrap();
            service.signal(Signal::TERM);
            assert!(manager.told().unwrap().starts_with("STOPPING=1\n"));
            let ended = service.end_within(PATIENCE).unwrap();
            assert_eq!(ended.code, 0, "{ended:?}");
            // Nobody serves, and everybody can connect.
            TcpStream::connect(manager.address()).unwrap();
            service = manager.start(&host, &[]).unwrap();
        }
        drop(ending);
        let failed: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (failed, service)
    });
    assert_eq!(failed, Vec::<String>::new(), "{}", service.log());
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_client_that_has_said_nothing_keeps_no_service_from_its_end() {
    let host = TestHost::prepared().copy();
    let manager = Manager::listening("127.0.0.1").unwrap();
    let service = manager.start(&host, &[]).unwrap();
    let _silent = TcpStream::connect(manager.address()).unwrap();
    eventually("the connection is accepted", PATIENCE, || {
        // It waits behind the other, so that one was accepted, too.
        service.get("/health").status == 200
    })
    .unwrap();
    let since = Instant::now();
    assert_eq!(service.stop().unwrap().code, 0);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

#[test]
fn the_manager_is_told_of_start_reload_and_end_and_hears_again_and_again_that_the_service_lives() {
    let host = TestHost::prepared().copy();
    let manager = Manager::listening("127.0.0.1").unwrap();
    let service = manager.start(&host, &[]).unwrap();
    service.signal(Signal::HUP);
    assert!(manager.told().unwrap().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.told().unwrap(), "READY=1");
    service.signal(Signal::TERM);
    // The grace, and what the end takes besides.
    assert_eq!(manager.told().unwrap(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=90000000");
    assert_eq!(service.end_within(PATIENCE).unwrap().code, 0);

    let mut command = manager.command(&host, &[]).unwrap();
    let service = Service::start_command(command.env("WATCHDOG_USEC", "200000")).unwrap();
    let mut lives = 0;
    while lives < 5 {
        match manager.told().unwrap().as_str() {
            "WATCHDOG=1" => lives += 1,
            "READY=1" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn the_sockets_address_counts_and_not_the_configurations() {
    let host = TestHost::prepared().copy();
    let manager = Manager::listening("0.0.0.0").unwrap();
    // Which is this machine alone, where no tokens are asked for.
    let service = manager.start(&host, &["--host", "127.0.0.1", "--port", "1"]).unwrap();
    assert_eq!(service.address().port(), manager.address().port());
    assert_eq!(service.python("print(1)").error(), "E004: access_token missing");
    assert_eq!(service.stop().unwrap().code, 0);
    let mut command =
        manager.command(&host, &["--set", "api.require_tokens=false", "--host", "127.0.0.1"]).unwrap();
    let refused = Running::start(&mut command).end_within(PATIENCE).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("others can reach 0.0.0.0"), "{refused:?}");
}

#[test]
fn what_is_no_socket_to_serve_on_is_refused_and_what_is_for_another_process_is_left_alone() {
    let host = TestHost::prepared().copy();
    let manager = Manager::listening("127.0.0.1").unwrap();
    let refusal = |passed: OwnedFd| {
        let mut command = manager.command_with(&host, &["--port", "0"], passed.into()).unwrap();
        let refused = Running::start(&mut command).end_within(PATIENCE).unwrap();
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.stderr.contains("hint: the socket unit has to have ListenStream="), "{refused:?}");
        refused.stderr
    };
    let wrong = refusal(File::open("/dev/null").unwrap().into());
    assert!(wrong.contains("is not a socket"), "{wrong}");
    let wrong = refusal(UdpSocket::bind("127.0.0.1:0").unwrap().into());
    assert!(wrong.contains("is not a valid tcp socket"), "{wrong}");
    let wrong = refusal(TcpStream::connect(manager.address()).unwrap().into());
    assert!(wrong.contains("does not listen"), "{wrong}");

    let mut command = manager.command(&host, &["--port", "0"]).unwrap();
    let service = Service::start_command(command.env("OWNER", "1")).unwrap();
    assert_ne!(service.address(), SocketAddr::from(([127, 0, 0, 1], manager.address().port())));
    assert_eq!(service.stop().unwrap().code, 0);
}
