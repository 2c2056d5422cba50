//! The runner: does what the host asks for, one message after the other.

use std::{fs::File, io::Write as _, os::fd::AsFd as _, time::Duration};

use protocol::{
    Bytes, GENERATION,
    message::{
        self, Execution, GuestMessage, HostMessage, Limits, Options, Outcome, Prepare, Process, Run, Runtime,
        Usage,
    },
};
use rustix::{
    fs::{FileType, Mode, fstat},
    process::umask,
    thread::set_no_new_privs,
};

use crate::{
    cgroup::{Group, Hierarchy},
    channel::Channel,
    exits::Exits,
    fault::{Doing, Fault},
    fetch, fresh, in_flight,
    initialised::Initialised,
    job_directory,
    live::Live,
    output, reseed, root, scratch,
    supervise::{self, Remains},
    timer,
};

/// What is left to the kernel and the agent of the memory that is free after the boot, in bytes.
const RESERVED_MEMORY: u64 = 24 << 20;

/// A request that is longer than this is taken from what its job may use, in bytes: the agent holds it while the job runs.
const LIGHT_REQUEST: u64 = 1 << 20;

/// Bounds of a run of the warm-up program. Under emulation on a loaded host it takes seconds.
const WARM_UP_LIMITS: Limits = Limits { timeout_millis: 120_000, output_bytes: 64 << 10 };

/// How much of what a warm-up says is told as the reason of its failure. The host shows as much.
const MAX_REASON_CHARS: usize = 2_000;

/// Serves the host until it closes the channel.
pub(crate) fn run() -> Result<(), Fault> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().doing("take the channel")?;
    let mut channel = Channel::over(stdin);
    let exits = std::io::stdout().as_fd().try_clone_to_owned().doing("take the announcements of exits")?;
    let is_socket = FileType::from_raw_mode(fstat(&exits).doing("look at stdout")?.st_mode).is_socket();
    let exits = is_socket.then(|| Exits::from(exits));
    let random = File::options().write(true).open("/dev/random").doing("open /dev/random")?;
    std::fs::write("/proc/self/oom_score_adj", "-1000").doing("be exempt from the out-of-memory killer")?;
    // Before the root is entered, where there is none.
    let log = File::options().write(true).open("/dev/kmsg").doing("open the kernel's log")?;
    let timer_permille = timer::permille()?;
    let hierarchy = Hierarchy::open()?;
    umask(Mode::from_raw_mode(0o022));
    limit_ipc()?;
    root::enter()?;
    scratch::mount()?;
    root::protect()?;
    // Inherited by everything that runs from here on: no setuid program of an image gives rights to a job.
    set_no_new_privs(true).doing("give up new privileges")?;
    let mut runner = Runner {
        log,
        exits,
        home: None,
        hierarchy: &hierarchy,
        random,
        directory: job_directory_path()?,
        job_memory_bytes: available_memory()?.saturating_sub(RESERVED_MEMORY),
        timer_permille,
        own_sockets: in_flight::sockets()?,
        interpreter: None,
        interpreters_sockets: 0,
        scratch_used: false,
        buffer: vec![0; supervise::BUFFER_BYTES],
    };
    runner.home = Some(runner.take_home()?);
    while let Some(message) = channel.receive()? {
        let trace_id = match &message {
            HostMessage::Run(run) => run.trace_id.clone(),
            _ => String::new(),
        };
        if let Err(fault) = runner.serve(message, &mut channel) {
            // Critical, so that it passes `quiet` and the host sees it among the microVM's last words.
            runner.log(2, &trace_id, &format!("failed: {fault}"));
            channel.send(&GuestMessage::Failed { reason: fault.to_string() })?;
        }
    }
    Ok(())
}

/// Bounds what jobs can leave behind in this IPC namespace, which they share: System V shared memory goes with those
/// who use it, System V semaphores and message queues of either kind are not to be had.
fn limit_ipc() -> Result<(), Fault> {
    for (name, value) in [
        ("kernel/shm_rmid_forced", "1"),
        ("kernel/sem", "250 32000 32 0"),
        ("kernel/msgmni", "0"),
        ("fs/mqueue/queues_max", "0"),
    ] {
        match std::fs::write(format!("/proc/sys/{name}"), value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing(format!("set {name}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `/tmp/job-<id>`. One name for all that this boot, or this snapshot's clones, run: an initialised interpreter
/// has fixed the program's absolute path before there is a job.
fn job_directory_path() -> Result<String, Fault> {
    let mut id = [0; 4];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).doing("choose a job id")?;
    Ok(format!("/tmp/job-{:08x}", u32::from_ne_bytes(id)))
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_memory() -> Result<u64, Fault> {
    let text = std::fs::read_to_string("/proc/meminfo").doing("read /proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib << 10)
        .ok_or_else(|| Fault::new("/proc/meminfo has no MemAvailable"))
}

/// The run of a program of ours.
fn exercise(runtime: Runtime, files: Vec<message::File>) -> Run {
    Run {
        trace_id: String::new(),
        runtime,
        process: Process::Rehearsal,
        files,
        args: Vec::new(),
        stdins: vec![Bytes::default()],
        limits: WARM_UP_LIMITS,
        options: Options::default(),
    }
}

/// What the agent holds of a request, in bytes.
fn weight(run: &Run) -> u64 {
    let files = run.files.iter().map(|file| file.content.0.len());
    files.chain(run.stdins.iter().map(|stdin| stdin.0.len())).map(|length| length as u64).sum()
}

struct Runner<'a> {
    /// The kernel's log.
    log: File,
    hierarchy: &'a Hierarchy,
    /// Where the kernel announces exits, if it does.
    exits: Option<Exits>,
    /// The group of the next job, made beforehand: moving a process takes longer than any other step of a short run.
    /// The initialised interpreter waits in it, to be that job.
    home: Option<Group<'a>>,
    random: File,
    directory: String,
    job_memory_bytes: u64,
    timer_permille: u32,
    /// How many Unix sockets there are where nothing runs or waits.
    own_sockets: usize,
    interpreter: Option<Initialised>,
    /// How many more there are where the interpreter waits.
    interpreters_sockets: usize,
    /// Whether something may have written to the scratch directories.
    scratch_used: bool,
    /// Through which output is read.
    buffer: Vec<u8>,
}

impl<'a> Runner<'a> {
    /// Writes a line about a request to the kernel's log, with a priority of syslog(3). The id is that of the host's log.
    fn log(&mut self, priority: u8, trace_id: &str, line: &str) {
        // In one write, which is one record. There is no one to tell if this fails.
        let _ = self.log.write_all(format!("<{priority}>guest agent: run {trace_id}: {line}\n").as_bytes());
    }

    fn serve(&mut self, message: HostMessage, channel: &mut Channel) -> Result<(), Fault> {
        match message {
            HostMessage::Hello { generation: _ } => {
                // The host compares the generations, for it knows how to mend a difference, and judges the timer.
                let (job_memory_bytes, timer_permille) = (self.job_memory_bytes, self.timer_permille);
                channel.send(&GuestMessage::Hello {
                    generation: GENERATION,
                    job_memory_bytes,
                    timer_permille,
                })
            }
            HostMessage::Prepare(prepare) => {
                let initialised = self.prepare(prepare)?;
                channel.send(&GuestMessage::Prepared { initialised })
            }
            HostMessage::Reseed { entropy, realtime_unix_nanos } => {
                reseed::kernel(&self.random, &entropy, realtime_unix_nanos)?;
                if let Some(interpreter) = &self.interpreter {
                    interpreter.reseed()?;
                }
                channel.send(&GuestMessage::Reseeded)
            }
            HostMessage::Run(run) => {
                let rehearsal = run.process == Process::Rehearsal;
                if !rehearsal {
                    // What the kernel says after this, of memory or a program's fault, is about this request.
                    self.log(6, &run.trace_id, &format!("{} executions", run.stdins.len()));
                }
                let only = run.stdins.len() == 1 && !rehearsal;
                for (index, stdin) in run.stdins.iter().enumerate() {
                    let number = u32::try_from(index).doing("number an execution")?;
                    let live = Live::of(channel, number, &run.options)?;
                    let last = index + 1 == run.stdins.len();
                    let (mut execution, remains, group) = self.execute(&run, stdin, (only, last), live)?;
                    execution.index = number;
                    fetch::collect(&self.directory, number, &run.options.fetch, |file| {
                        channel.send(&GuestMessage::File(file))
                    })?;
                    channel.send(&GuestMessage::Execution(execution))?;
                    if last && !rehearsal {
                        channel.send(&GuestMessage::Finished)?;
                    }
                    remains.wait(&group)?;
                    drop(group);
                    if rehearsal {
                        self.rewind()?;
                        if last {
                            channel.send(&GuestMessage::Finished)?;
                        }
                    }
                    if channel.is_lost() {
                        break;
                    }
                }
                Ok(())
            }
            // What they were for has ended meanwhile.
            HostMessage::Input { .. } | HostMessage::Signal { .. } => Ok(()),
        }
    }

    /// Starts the initialised interpreter and warms up. True where such an interpreter waits now.
    fn prepare(&mut self, prepare: Prepare) -> Result<bool, Fault> {
        if let Some(interpreter) = prepare.runtime.interpreter {
            job_directory::create(&self.directory, &[])?;
            self.scratch_used = true;
            let home = self.take_home()?;
            let started = Initialised::start(interpreter, &prepare.runtime, &self.directory, &home)?;
            self.home = Some(home);
            self.interpreter = Some(started);
            self.interpreters_sockets = in_flight::sockets()?.saturating_sub(self.own_sockets);
        }
        let warm_up = exercise(prepare.runtime, prepare.warm_up.files);
        for _ in 0..prepare.warm_up.runs {
            self.exercise(&warm_up)?;
        }
        self.clean()?;
        Ok(self.interpreter.is_some())
    }

    /// Runs a program of ours, which must succeed, in a fork of the initialised interpreter where there is one.
    fn exercise(&mut self, run: &Run) -> Result<(), Fault> {
        let (execution, remains, group) = self.execute(run, &Bytes::default(), (false, true), None)?;
        remains.wait(&group)?;
        drop(group);
        if execution.outcome != (Outcome::Exited { code: 0 }) {
            let stderr = String::from_utf8_lossy(&execution.stderr.bytes.0);
            let stderr: String = stderr.chars().take(MAX_REASON_CHARS).collect();
            return Err(Fault::new(format!(
                "the warm-up program ended as {:?}: {stderr}",
                execution.outcome
            )));
        }
        self.rewind()
    }

    /// Leaves everything, and the initialised interpreter, as if nothing had run.
    fn rewind(&mut self) -> Result<(), Fault> {
        if let Some(interpreter) = &self.interpreter {
            interpreter.take_pages_back()?;
        }
        self.clean()
    }

    /// Makes the scratch directories what they were at the start.
    fn clean(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.scratch_used) {
            let waiting = if self.interpreter.is_some() { self.interpreters_sockets } else { 0 };
            in_flight::wait_for(self.own_sockets + waiting)?;
            scratch::renew()?;
        }
        Ok(())
    }

    /// The group of the next job, made where it was not.
    fn take_home(&mut self) -> Result<Group<'a>, Fault> {
        match self.home.take() {
            Some(home) => Ok(home),
            None => self.group("job"),
        }
    }

    fn group(&self, name: &str) -> Result<Group<'a>, Fault> {
        let group = self.hierarchy.create(name)?;
        group.limit(self.job_memory_bytes)?;
        Ok(group)
    }

    /// Runs `run` once with `stdin`. Where that is the `only` execution of a request, it may use the initialised interpreter
    /// up. The remains and the group come along so that the answer need not wait for their end; where it is the `last`, not
    /// even for that of many.
    fn execute(
        &mut self,
        run: &Run,
        stdin: &Bytes,
        (only, last): (bool, bool),
        live: Option<Live<'_>>,
    ) -> Result<(Execution, Remains, Group<'a>), Fault> {
        if self.interpreter.as_ref().map_or(Ok(false), Initialised::has_ended)? {
            self.log(4, &run.trace_id, "goes on without its interpreter, which has ended");
            self.interpreter = None;
            // Its group has counted that end: if the kernel has brought it about, for want of memory.
            self.home = None;
        }
        self.clean()?;
        self.scratch_used = true;
        job_directory::create(&self.directory, &run.files)?;
        // The arguments of an initialised process are fixed, for anybody to see in /proc.
        let initialised = run.process != Process::Fresh && run.args.is_empty();
        let used_up = self.interpreter.take_if(|_| initialised && only);
        let group = if self.interpreter.is_none() { self.take_home()? } else { self.group("fork")? };
        let weight = weight(run);
        if weight > LIGHT_REQUEST {
            group.limit_memory(self.job_memory_bytes.saturating_sub(weight))?;
        }
        let used_before = if run.options.usage { Some(group.cpu_micros()?) } else { None };
        let clock = supervise::Clock::start(Duration::from_millis(run.limits.timeout_millis));
        let (program, streams) = match (used_up, &self.interpreter) {
            (Some(interpreter), _) => interpreter.run(&self.directory)?,
            (None, waiting) => {
                let (ends, streams) = output::pipes()?;
                let program = match (waiting, &self.home) {
                    (Some(interpreter), Some(home)) if initialised => {
                        interpreter.fork(&self.directory, &ends, home, &group)?
                    }
                    _ => fresh::spawn(&run.runtime, &run.args, &self.directory, ends, &group)?,
                };
                (program, streams)
            }
        };
        let limit = usize::try_from(run.limits.output_bytes).doing("bound the output")?;
        let streams = streams.attach(&stdin.0, run.options.interactive, limit);
        let exits = self.exits.as_ref();
        let (mut execution, remains) =
            supervise::to_the_end(program, clock, &group, exits, streams, live, last, &mut self.buffer)?;
        if let Some(before) = used_before {
            let cpu_micros = group.cpu_micros()?.saturating_sub(before);
            execution.usage = Some(Usage { cpu_micros, peak_memory_bytes: group.peak_memory_bytes()? });
        }
        Ok((execution, remains, group))
    }
}
