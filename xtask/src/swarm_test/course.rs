//! The course of the test: step after step under the same load, then the verdict.

use std::time::{Duration, Instant};

use super::SwarmArgs;
use super::client::Client;
use super::docker::Docker;
use super::events::{Watch, restarts};
use super::images::Images;
use super::load::{Account, Load, Target, now};
use super::peers::Peers;
use super::report::{self, Step};
use super::stack::Stack;
use super::stop::Stop;
use super::{hostile, inspect, isolation, restore, rotation};
use crate::run;

/// How long a fleet may take to be ready, and how long the last jobs may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two kills.
const KILLS_MILLIS: std::ops::Range<u64> = 1500..4000;
/// How many workers may end by themselves in a row before a kill is given up.
const KILL_TRIES: usize = 10;
/// From a change of the number of workers until it is in force.
const SETTLING: Duration = Duration::from_secs(5);
/// The size of the fleet while things go wrong.
const FLEET: u32 = 4;

/// How often a version that cannot start is tried: Swarm counts only the workers that the update itself starts, and may see too few of them fail.
const BAD_UPDATES: u32 = 2;

/// Everything that the steps need.
#[derive(Debug)]
pub(super) struct Course<'a> {
    args: &'a SwarmArgs,
    docker: &'a Docker,
    stop: &'a Stop,
    images: &'a Images,
    peers: &'a Peers,
    stack: &'a mut Stack,
    client: Client,
    watch: Watch,
    random: fastrand::Rng,
    steps: Vec<Step>,
    figures: Vec<String>,
    faults: Vec<String>,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        args: &'a SwarmArgs,
        docker: &'a Docker,
        stop: &'a Stop,
        images: &'a Images,
        peers: &'a Peers,
        stack: &'a mut Stack,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::new(stack.base_url(), &stack.key.key),
            watch: Watch::start(docker, &stack.service_label("git-worker"))?,
            random: fastrand::Rng::with_seed(args.seed),
            steps: Vec::new(),
            figures: Vec::new(),
            faults: Vec::new(),
            args,
            docker,
            stop,
            images,
            peers,
            stack,
        })
    }

    /// Runs all steps, and prints what they showed. True if nothing is wrong.
    pub(super) fn run(mut self) -> anyhow::Result<bool> {
        let took = self.wait_until_idle(FLEET)?;
        self.note(format!(
            "from deployment to {FLEET} idle workers: {:.1} s",
            took.as_secs_f64()
        ));
        self.look()?;
        self.break_in()?;
        let target = Target {
            client: self.client.clone(),
            repository: self.peers.repository_url(),
            token: self.peers.token.clone(),
            name: "load",
        };
        let mut load = Load::start(&target, self.args.sessions);
        let ran = self.steps_under(&load);
        load.end();
        self.begin(&load, "the last jobs", None);
        let ended = ran.and_then(|()| {
            self.stop
                .until("every session has ended", PATIENCE, || Ok(load.is_over()))
        });
        self.end_step();
        let verdict = ended.and_then(|_| self.check(&mut load));
        self.print(&load);
        verdict?;
        Ok(self.faults.is_empty())
    }

    fn steps_under(&mut self, load: &Load) -> anyhow::Result<()> {
        self.begin(load, "clone and branch", None);
        self.stop.pause(self.step_time())?;
        for replicas in [2, 4, 8] {
            self.begin(load, &format!("to {replicas} replicas"), None);
            self.scale(replicas)?;
            self.begin(load, &format!("{replicas} replicas"), Some(replicas));
            self.stop.pause(self.step_time())?;
        }
        for replicas in [3, 10, 2, FLEET] {
            self.begin(load, &format!("scaled to {replicas}"), None);
            self.scale(replicas)?;
            self.stop.pause(self.step_time() / 2)?;
        }
        self.begin(load, "token and keys changed", None);
        self.rotate()?;
        self.begin(load, "backup", None);
        self.back_up()?;
        self.begin(load, "rolling update", None);
        self.update()?;
        self.begin(load, "containers killed", None);
        self.kill_workers()?;
        self.begin(load, "a worker cut off", None);
        self.cut_off()?;
        self.begin(load, "node drained and back", None);
        self.drain()?;
        self.stop.pause(self.step_time())?;
        self.begin(load, "gateway killed", None);
        self.kill_gateway()?;
        self.begin(load, "at rest again", None);
        self.stop.pause(self.step_time())
    }

    /// A good version must get through though its workers end after each job, and a bad one must not stay.
    fn update(&mut self) -> anyhow::Result<()> {
        let (update, broken) = (&self.images.update, &self.images.broken);
        let took = self.stack.update(self.docker, update, self.stop)?;
        self.note(format!(
            "rolling update of {FLEET} git workers under load: completed in {:.0} s",
            took.as_secs_f64()
        ));
        for _ in 0..BAD_UPDATES {
            let tried = self.stack.update_in_vain(self.docker, broken, self.stop)?;
            let seconds = tried.took.as_secs_f64();
            if tried.is_taken_back {
                self.note(format!(
                    "update to a version that cannot start: rolled back in {seconds:.0} s"
                ));
                return Ok(());
            }
            self.note(format!(
                "update to a version that cannot start: it stayed, and was gone back from by hand in {seconds:.0} s"
            ));
        }
        self.faults
            .push(format!("a version that cannot start stayed {BAD_UPDATES} times"));
        Ok(())
    }

    /// Another token for the fleet and another key for the client, under load and without a refusal.
    fn rotate(&mut self) -> anyhow::Result<()> {
        let (took, faults) = rotation::rotate(self.docker, self.stack, &self.client, self.stop)?;
        self.note(format!(
            "token of the fleet and keys of clients changed in three deployments: {:.0} s, {} faults",
            took.as_secs_f64(),
            faults.len()
        ));
        self.faults.extend(faults);
        Ok(())
    }

    fn back_up(&mut self) -> anyhow::Result<()> {
        let copied = restore::back_up(self.peers)?;
        self.note(format!("backup under load: {copied} objects"));
        Ok(())
    }

    /// The backup in place of the storage, with the sessions of the load.
    fn restore(&mut self, accounts: &[Account]) -> anyhow::Result<()> {
        let (took, faults) = restore::restore(
            self.docker,
            self.stack,
            self.peers,
            &self.client,
            accounts,
            self.stop,
        )?;
        self.note(format!(
            "restored, and the fleet moved there: {:.0} s; sessions that went on, {} of {}",
            took.as_secs_f64(),
            accounts.len() - faults.len().min(accounts.len()),
            accounts.len()
        ));
        self.faults.extend(faults);
        Ok(())
    }

    /// Looks at what was really deployed.
    fn look(&mut self) -> anyhow::Result<()> {
        let findings = inspect::inspect(self.docker, self.stack)?;
        self.faults.extend(findings.faults);
        findings.lines.into_iter().for_each(|line| self.note(line));
        let mut starts = Vec::new();
        for id in self.docker.containers(&self.stack.service_label("git-worker"))? {
            starts.extend(inspect::start_to_first_line(self.docker, &id)?);
        }
        starts.sort_by(f64::total_cmp);
        let list: Vec<String> = starts.iter().map(|secs| format!("{secs:.3}")).collect();
        self.note(format!(
            "from a git worker's start to its first line of log, which says that it listens: {} s",
            list.join(", ")
        ));
        let (whole, beyond) = self.images.sizes(self.docker)?;
        self.note(format!(
            "image: {:.1} MB, {:.1} MB beyond its base",
            megabytes(whole),
            megabytes(beyond)
        ));
        Ok(())
    }

    /// Tries to get out of a worker: by what a job brings, and by a program in its place.
    fn break_in(&mut self) -> anyhow::Result<()> {
        let (faults, tried) = hostile::tried(&self.client, self.docker, self.peers)?;
        self.note(format!(
            "hostile repositories and patches as jobs: {tried}, {} not as they have to be",
            faults.len()
        ));
        self.faults.extend(faults);
        let (faults, refused) = isolation::probed(self.docker, self.stack, &self.images.probe, self.stop)?;
        self.note(format!(
            "a probe in a worker's place: {refused} attempts refused, {} not",
            faults.len()
        ));
        self.faults.extend(faults);
        Ok(())
    }

    /// Scales, and gives Swarm time to do so; under load some of the workers are between two lives at any time.
    fn scale(&self, replicas: u32) -> anyhow::Result<()> {
        self.stack.scale(self.docker, replicas)?;
        let label = self.stack.service_label("git-worker");
        self.stop
            .until(&format!("at most {replicas} git workers run"), PATIENCE, || {
                Ok(self.docker.containers(&label)?.len() <= replicas as usize)
            })?;
        self.stop.pause(SETTLING)
    }

    /// Kills containers of the stack's workers, one after the other.
    fn kill_workers(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + self.step_time() * 2;
        let mut killed = 0;
        while Instant::now() < end {
            killed += usize::from(self.kill_one()?);
            let pause = self.random.u64(KILLS_MILLIS);
            self.stop.pause(Duration::from_millis(pause))?;
        }
        self.note(format!("git workers killed: {killed}"));
        Ok(())
    }

    /// A worker may end by itself before the kill arrives; then another one is chosen.
    fn kill_one(&mut self) -> anyhow::Result<bool> {
        for _ in 0..KILL_TRIES {
            let mut ids = self.docker.containers(&self.stack.service_label("git-worker"))?;
            ids.sort();
            let Some(id) = self.random.choice(&ids) else {
                continue;
            };
            if self
                .docker
                .attempt(&["kill", "--signal", "KILL", id], "")?
                .is_good
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the network from a worker, gives it back, and lets Swarm replace the worker.
    fn cut_off(&mut self) -> anyhow::Result<()> {
        let network = self.stack.service("git-fleet");
        let label = self.stack.service_label("git-worker");
        let (docker, random) = (self.docker, &mut self.random);
        let mut cut = None;
        // There may be none for a moment, and one may end by itself before it is cut off.
        self.stop.until("a git worker was cut off", PATIENCE, || {
            let Some(id) = random.choice(&docker.containers(&label)?).cloned() else {
                return Ok(false);
            };
            let cutting = ["network", "disconnect", "--force", &network, &id];
            cut = docker.attempt(&cutting, "")?.is_good.then_some(id);
            Ok(cut.is_some())
        })?;
        let id = cut.unwrap_or_default();
        self.stop.pause(self.step_time())?;
        // A worker that is not known by its address any more gets no job; it is replaced as an operator would.
        let is_back = self
            .docker
            .attempt(&["network", "connect", &network, &id], "")?
            .is_good;
        self.stop.pause(self.step_time() / 4)?;
        let is_replaced = self
            .docker
            .attempt(&["kill", "--signal", "TERM", &id], "")?
            .is_good;
        self.note(format!("a git worker cut off; given its network back: {is_back}, still there and ended then: {is_replaced}"));
        Ok(())
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let took = self.stack.drain(self.docker, self.stop)?;
        Stack::restore(self.docker)?;
        let back = self.wait_until_known(FLEET)?;
        self.note(format!(
            "node drained: nothing ran on it after {:.1} s; back, and {FLEET} workers known, {:.1} s later",
            took.as_secs_f64(),
            back.as_secs_f64()
        ));
        Ok(())
    }

    fn kill_gateway(&mut self) -> anyhow::Result<()> {
        for id in self.docker.containers(&self.stack.service_label("gateway"))? {
            self.docker.text(&["kill", "--signal", "KILL", &id])?;
        }
        let took = self.wait_until_known(1)?;
        self.note(format!(
            "gateway killed: another one knew workers {:.1} s later",
            took.as_secs_f64()
        ));
        self.stop.pause(self.step_time() / 2)
    }

    fn wait_until_idle(&self, replicas: u32) -> anyhow::Result<Duration> {
        self.stop
            .until(&format!("{replicas} git workers are idle"), PATIENCE, || {
                Ok(self.client.git_workers("idle") >= replicas as usize)
            })
    }

    fn wait_until_known(&self, replicas: u32) -> anyhow::Result<Duration> {
        self.stop
            .until(&format!("{replicas} git workers are known"), PATIENCE, || {
                Ok(self.client.git_workers("") >= replicas as usize)
            })
    }

    fn step_time(&self) -> Duration {
        Duration::from_secs(self.args.step_secs)
    }

    fn begin(&mut self, load: &Load, name: &str, replicas: Option<u32>) {
        self.end_step();
        if self.steps.is_empty() {
            self.steps.push(Step {
                name: "start".to_owned(),
                begun: now(),
                ended: now(),
                replicas: None,
            });
        }
        run::say(&format!("swarm-test: {name}"));
        load.next_step();
        self.steps.push(Step {
            name: name.to_owned(),
            begun: now(),
            ended: now(),
            replicas,
        });
    }

    fn end_step(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.ended = now();
        }
    }

    fn note(&mut self, line: String) {
        run::say(&format!("swarm-test: {line}"));
        self.figures.push(line);
    }

    fn check(&mut self, load: &mut Load) -> anyhow::Result<()> {
        let jobs = load.jobs();
        let accounts = load.accounts();
        let (faults, streams) = report::job_faults(&self.client, &jobs)?;
        let wrong = faults.len();
        self.faults.extend(faults);
        let found = report::hold_against(&self.client, self.docker, self.peers, &accounts)?;
        self.faults.extend(found.faults);
        let retried: usize = jobs.iter().map(|job| job.seen.attempts).sum();
        let offered: usize = jobs.iter().map(|job| job.seen.refusals).sum();
        let reconnects: usize = jobs.iter().map(|job| job.seen.reconnects).sum();
        self.figures.push(format!(
            "{} requests for jobs of {} sessions; {streams} jobs, of whose streams, read again at the end, {wrong} have not exactly one terminal event",
            jobs.len(),
            accounts.len(),
        ));
        self.figures.push(format!(
            "{} commits, of which {} are not on the remote and {} are there more than once; workers lost and jobs retried by the gateway {retried}; offered to another worker after a refusal {offered}; streams taken up again {reconnects}",
            found.commits, found.lost, found.doubled,
        ));
        self.figures
            .push(format!("errors that clients saw: {}", report::codes(&jobs)));
        self.faults.extend(rotation::refusals(&jobs));
        self.restore(&accounts)
    }

    fn print(&self, load: &Load) {
        let (jobs, restarts) = (load.jobs(), restarts(&self.watch.events()));
        self.figures
            .iter()
            .for_each(|line| run::print(&format!("- {line}")));
        run::print("");
        report::capacity_table(&self.steps, &jobs, &restarts)
            .iter()
            .for_each(|line| run::print(line));
        run::print("");
        report::steps_table(&self.steps, &jobs, &restarts)
            .iter()
            .for_each(|line| run::print(line));
        run::print("");
        self.faults
            .iter()
            .for_each(|fault| run::print(&format!("FAULT: {fault}")));
        run::print(&format!("{} faults", self.faults.len()));
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
