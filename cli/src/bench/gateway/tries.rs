//! How many workers each job was offered to, as each side tells it: our gateway by its metrics and its streams, the others by their logs.

use anyhow::Context as _;
use mayfly_telemetry::task;

use super::jobs::Load;
use super::proxies;
use super::side::{Running, Side};

/// Tries at workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    jobs: u64,
    tries: u64,
    /// Jobs that the first worker took that was asked.
    first: u64,
}

impl Tries {
    pub(super) fn mean(self) -> f64 {
        self.tries as f64 / self.jobs as f64
    }

    pub(super) fn first_share(self) -> f64 {
        self.first as f64 / self.jobs as f64
    }

    fn add(mut self, tries: u64) -> Self {
        self.jobs += 1;
        self.tries += tries;
        self.first += u64::from(tries <= 1);
        self
    }
}

/// Ends the side, and counts its tries.
pub(super) async fn of(running: Running, load: &Load) -> anyhow::Result<Tries> {
    match running.side {
        Side::Mayfly | Side::Direct => {
            let refused = refused(&running).await?;
            running.stop().await?;
            let jobs = load.answers.len() as u64;
            // The first refusal of a job is always told in its stream.
            let retried = load.answers.iter().filter(|answer| answer.was_retried).count() as u64;
            Ok(Tries {
                jobs,
                tries: jobs + refused,
                first: jobs - retried,
            })
        }
        Side::Nginx => {
            let log = running.log.with_file_name(proxies::TRIES);
            running.stop().await?;
            Ok(of_nginx(&read(log).await?))
        }
        Side::Haproxy => {
            let log = running.log.clone();
            running.stop().await?;
            Ok(of_haproxy(&read(log).await?))
        }
    }
}

async fn read(file: std::path::PathBuf) -> anyhow::Result<String> {
    task::blocking(move || {
        std::fs::read_to_string(&file).with_context(|| format!("{} was not written", file.display()))
    })
    .await
}

/// Offers of jobs that no worker took, by the gateway's own count.
async fn refused(running: &Running) -> anyhow::Result<u64> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let answer = http
        .get(format!("http://{}/metrics", running.address))
        .send()
        .await?;
    let text = answer.error_for_status()?.text().await?;
    let values = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("mayfly_job_retries_total{")?;
        let (_, value) = labels.split_once(r#"reason="refused"} "#)?;
        value.parse::<f64>().ok()
    });
    Ok(values.sum::<f64>() as u64)
}

/// A line for each job, with the addresses of the workers that it was offered to.
fn of_nginx(log: &str) -> Tries {
    let tries = log
        .lines()
        .map(|line| line.split([',', ':']).filter(|part| part.contains('.')).count() as u64);
    tries.fold(Tries::default(), Tries::add)
}

/// A line for each job, with the number of tries after the first; a plus says that the last went to another worker.
fn of_haproxy(log: &str) -> Tries {
    let retries = log.lines().filter_map(|line| {
        let number = line.trim().strip_prefix("tries ")?;
        number.trim_start_matches('+').parse::<u64>().ok()
    });
    retries.fold(Tries::default(), |tries, more| tries.add(more + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_read_from_logs() {
        let nginx = "127.66.0.1:80\n127.66.0.1:80, 127.66.0.2:80, 127.66.0.3:80\nworkers\n";
        let expected = Tries {
            jobs: 3,
            tries: 4,
            first: 2,
        };
        assert_eq!(of_nginx(nginx), expected);
        let haproxy = "tries 0\n[NOTICE] (1) : x\ntries +2\n";
        let expected = Tries {
            jobs: 2,
            tries: 4,
            first: 1,
        };
        assert_eq!(of_haproxy(haproxy), expected);
    }
}
