//! The queue by hand, with times of our own.

use mayfly_protocol::{EventBody, JobId, Source};
use time::OffsetDateTime;

use super::*;

const INTERVAL: Duration = Duration::from_millis(250);
const FIGURE: Weight = Weight::Figure { complete: false };
const COMPLETE: Weight = Weight::Figure { complete: true };

fn event(stage: Stage, message: &str) -> Event {
    Event {
        body: EventBody::Progress {
            stage,
            message: message.to_owned(),
            progress: None,
            detail: None,
        },
        source: Source::GitWorker,
        timestamp: OffsetDateTime::UNIX_EPOCH,
        job_id: JobId::new_now(),
        usage: None,
    }
}

struct Fixture {
    queue: EventQueue,
    now: Instant,
}

impl Fixture {
    fn new(capacity: usize) -> Self {
        Self {
            queue: EventQueue::new(JobKind::CloneRepository, capacity, INTERVAL),
            now: Instant::now(),
        }
    }

    fn offer(&mut self, stage: Stage, weight: Weight, message: &str) -> Admission {
        self.queue.offer(stage, weight, event(stage, message), self.now)
    }

    /// What the reader gets, as `number message`.
    fn drain(&mut self) -> Vec<String> {
        std::iter::from_fn(|| match self.queue.pop() {
            Popped::Event(id, event) => match event.body {
                EventBody::Progress { message, .. } => Some(format!("{id} {message}")),
                _ => Some(format!("{id} end")),
            },
            Popped::Empty | Popped::Ended => None,
        })
        .collect()
    }
}

#[test]
fn figures_of_one_stage_are_let_through_at_the_interval() {
    let mut fixture = Fixture::new(10);
    assert_eq!(
        fixture.offer(Stage::Cloning, Weight::Note, "stage"),
        Admission::Taken
    );
    let mut taken = Vec::new();
    for step in 0..10 {
        if fixture.offer(Stage::Cloning, FIGURE, &step.to_string()) == Admission::Taken {
            taken.extend(fixture.drain());
        }
        fixture.now += Duration::from_millis(100);
    }
    assert_eq!(taken, ["1 stage", "2 0", "3 3", "4 6", "5 9"]);
}

#[test]
fn a_complete_figure_is_not_held_back_but_only_once() {
    let mut fixture = Fixture::new(10);
    fixture.offer(Stage::Cloning, Weight::Note, "stage");
    let admissions =
        [FIGURE, FIGURE, COMPLETE, COMPLETE].map(|weight| fixture.offer(Stage::Cloning, weight, "f"));
    use Admission::{Dropped, Taken};
    assert_eq!(admissions, [Taken, Dropped, Taken, Dropped]);
}

#[test]
fn a_reader_that_sleeps_finds_every_stage_and_the_latest_figure() {
    let mut fixture = Fixture::new(3);
    for stage in [Stage::DownloadingSession, Stage::NewSession, Stage::Cloning] {
        assert_eq!(fixture.offer(stage, Weight::Note, "stage"), Admission::Taken);
    }
    assert_eq!(
        fixture.offer(Stage::Cloning, Weight::Note, "no room"),
        Admission::Dropped
    );
    for step in 0..1000 {
        fixture.now += INTERVAL;
        fixture.offer(Stage::Cloning, FIGURE, &step.to_string());
    }
    assert_eq!(
        fixture.offer(Stage::Cloned, Weight::Note, "stage"),
        Admission::Taken
    );
    assert!(fixture.queue.finish(event(Stage::Cloned, "end")));
    assert_eq!(
        fixture.drain(),
        ["1 stage", "2 stage", "3 stage", "4 stage", "5 end"]
    );
    assert_eq!(fixture.queue.pop(), Popped::Ended);
}

#[test]
fn with_room_the_latest_figure_takes_the_place_of_the_one_before() {
    let mut fixture = Fixture::new(3);
    fixture.offer(Stage::Cloning, Weight::Note, "stage");
    for step in 0..1000 {
        fixture.now += INTERVAL;
        assert_eq!(
            fixture.offer(Stage::Cloning, FIGURE, &step.to_string()),
            Admission::Taken
        );
    }
    assert_eq!(fixture.drain(), ["1 stage", "2 999"]);
}

#[test]
fn stages_never_go_back() {
    let mut fixture = Fixture::new(10);
    fixture.offer(Stage::Cloned, Weight::Note, "a");
    for stage in [Stage::Cloning, Stage::Queued, Stage::Committing] {
        assert_eq!(
            fixture.offer(stage, Weight::Note, "b"),
            Admission::OutOfOrder,
            "{stage:?}"
        );
    }
    assert_eq!(fixture.queue.stage(), Some(Stage::Cloned));
    assert_eq!(fixture.drain(), ["1 a"]);
}

#[test]
fn after_the_end_and_without_a_reader_nothing_is_kept() {
    let mut fixture = Fixture::new(10);
    assert!(fixture.queue.finish(event(Stage::Cloning, "end")));
    assert!(!fixture.queue.finish(event(Stage::Cloning, "second end")));
    assert_eq!(
        fixture.offer(Stage::Cloning, Weight::Note, "late"),
        Admission::Dropped
    );
    assert_eq!(fixture.drain(), ["1 end"]);

    let mut fixture = Fixture::new(10);
    fixture.offer(Stage::Cloning, Weight::Note, "a");
    fixture.queue.abandon();
    assert_eq!(
        fixture.offer(Stage::Cloned, Weight::Note, "b"),
        Admission::Dropped
    );
    assert_eq!(
        (fixture.drain(), fixture.queue.stage()),
        (vec![], Some(Stage::Cloned))
    );
}
