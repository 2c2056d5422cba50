//! The process: its command line, its API socket, its metrics.

use std::{
    fs::File,
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use anyhow::{Context as _, Result};
use firecracker_stand_in::api::Api;
use rustix::fs::{Mode, OFlags, open};
use serde_json::{Value, json};

use crate::{VERSION, arguments::Arguments, http::Connection, machine::Machine, sys};

const FLAGS: [&str; 7] = [
    "--id",
    "--api-sock",
    "--metrics-path",
    "--level",
    "--start-time-us",
    "--start-time-cpu-us",
    "--parent-cpu-time-us",
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let own = Arguments::parse(arguments, &FLAGS)?;
    sys::catch_faults();
    println!("Running Firecracker v{VERSION}");
    let mut vmm = Vmm {
        api: Api::default(),
        machine: Machine::default(),
        metrics: open_metrics(own.one("--metrics-path")?)?,
    };
    let socket = Path::new(own.one("--api-sock")?);
    let listener = UnixListener::bind(socket).context("make the API's socket")?;
    println!("Listening on API socket ({}).", socket.display());
    loop {
        let (stream, _) = listener.accept().context("take a connection")?;
        vmm.serve(stream)?;
    }
}

fn open_metrics(path: &str) -> Result<File> {
    // Firecracker's way: a fifo without a reader is no error, and is not waited for.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    Ok(File::from(open(path, flags, Mode::from_raw_mode(0o600)).context("open the metrics")?))
}

struct Vmm {
    api: Api,
    machine: Machine,
    metrics: File,
}

impl Vmm {
    fn serve(&mut self, stream: UnixStream) -> Result<()> {
        let mut connection = Connection::over(stream);
        while let Some((request, body)) = connection.receive()? {
            println!("The API server received a request: {request}");
            let taken = self.api.take(&request, &body);
            let done =
                taken.and_then(|()| self.carry_out(&request, &body).map_err(|error| format!("{error:#}")));
            connection.answer(&done)?;
            self.machine.end_if_panicked();
            // A Firecracker that could not restore a guest is of no use any more, and ends.
            if let (Err(fault), "PUT /snapshot/load") = (&done, request.as_str()) {
                anyhow::bail!("cannot load the snapshot: {fault}");
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, request: &str, body: &Value) -> Result<()> {
        let text = |field: &str| body[field].as_str().unwrap_or_default();
        match request {
            "PUT /actions" if text("action_type") == "FlushMetrics" => {
                let line = json!({ "api_server": {}, "latencies_us": { "load_snapshot": 0 } });
                Ok(writeln!(self.metrics, "{line}")?)
            }
            "PUT /actions" => self.machine.boot(&self.api),
            "PATCH /vm" => {
                self.machine.set_running(text("state") == "Resumed");
                Ok(())
            }
            "PUT /snapshot/create" => Machine::save(&self.api, body),
            "PUT /snapshot/load" => self.machine.restore(body),
            _ => Ok(()),
        }
    }
}
