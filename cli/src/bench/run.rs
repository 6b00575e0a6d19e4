//! One run: every job, by every side, one after the other. Who begins changes from run to run.

use super::figures::{Figures, Job, Side};
use super::naive::{GitCli, Naive};
use super::ours::Ours;
use super::place::Place;

/// The jobs, in the order in which a session sees them.
const JOBS: [Job; 6] = [
    Job::CloneUnknown,
    Job::CloneKnown,
    Job::Pull,
    Job::CreateBranch,
    Job::ApplyChanges,
    Job::CommitAndPush,
];

/// Does all jobs once, and leaves nothing behind but the branches on the host.
pub(crate) async fn run(
    place: &Place,
    number: u32,
    against: &[Side],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let naive = |side| Naive::new(place, side, number);
    let sides = [Side::Tar, Side::TarZstd].into_iter();
    let mut run = Run {
        ours: Ours::new(place, number)?,
        clones: GitCli::new(place, number)?,
        naive: sides
            .filter(|side| against.contains(side))
            .map(naive)
            .collect::<anyhow::Result<_>>()?,
        against,
        figures,
    };
    let we_begin = number.is_multiple_of(2);
    if !we_begin {
        run.naive.reverse();
    }
    for job in JOBS {
        if job == Job::Pull {
            place.commit_news(number)?;
        }
        if we_begin {
            run.ours(job).await?;
            run.theirs(job).await?;
        } else {
            run.theirs(job).await?;
            run.ours(job).await?;
        }
    }
    run.remove().await
}

struct Run<'a> {
    ours: Ours<'a>,
    clones: GitCli<'a>,
    naive: Vec<Naive<'a>>,
    against: &'a [Side],
    figures: &'a mut Figures,
}

impl Run<'_> {
    async fn ours(&mut self, job: Job) -> anyhow::Result<()> {
        let sample = self.ours.run(job).await?;
        tracing::info!(job = %job, wall = sample.usage.wall, "mayfly");
        self.figures.push(job, Side::Mayfly, sample);
        Ok(())
    }

    async fn theirs(&mut self, job: Job) -> anyhow::Result<()> {
        match job {
            Job::CloneUnknown => self.their_clones().await,
            // Whoever keeps archives knows nothing of a repository that another session has cloned.
            Job::CloneKnown => Ok(()),
            _ => {
                for naive in &self.naive {
                    let sample = naive.run(job).await?;
                    tracing::info!(job = %job, wall = sample.usage.wall, "{}", naive.side());
                    self.figures.push(job, naive.side(), sample);
                }
                Ok(())
            }
        }
    }

    async fn their_clones(&mut self) -> anyhow::Result<()> {
        if self.against.contains(&Side::GitCloneBare) {
            let sample = self.clones.clone_bare().await?;
            self.figures.push(Job::CloneUnknown, Side::GitCloneBare, sample);
        }
        if !self.against.contains(&Side::GitClone) && self.naive.is_empty() {
            return Ok(());
        }
        let clone = self.clones.clone_repository().await?;
        if self.against.contains(&Side::GitClone) {
            self.figures.push(Job::CloneUnknown, Side::GitClone, clone);
            self.figures.push(Job::CloneKnown, Side::GitClone, clone);
        }
        let mut archived = Vec::new();
        for naive in &self.naive {
            archived.push((naive.side(), naive.archive(&self.clones).await?));
        }
        let removal = self.clones.remove_workspace().await?;
        for (side, archive) in archived {
            self.figures
                .push(Job::CloneUnknown, side, clone.then(archive).then(removal));
        }
        Ok(())
    }

    async fn remove(self) -> anyhow::Result<()> {
        self.ours.remove().await?;
        self.clones.remove()?;
        for naive in self.naive {
            naive.remove().await?;
        }
        Ok(())
    }
}
