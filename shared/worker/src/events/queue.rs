//! What a job's stream keeps for its reader: pure, without clock or lock.
//!
//! The queue is bounded: the first event of each stage and the terminal event always fit, since a kind of job has few stages; all else gives way.

use std::collections::VecDeque;
use std::time::Duration;

use mayfly_protocol::outcome::NumberedEvent;
use mayfly_protocol::{Event, JobKind, Stage};
use tokio::time::Instant;

/// Events that are kept for the job's outcome; later progress is left out of it.
const MAX_HISTORY: usize = 1000;

/// How much an event matters that is not the first of its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Something new about the stage: kept while there is room.
    Note,
    /// Something that must be heard; a job says few of these.
    Word,
    /// How far the stage is: a later figure takes the place of an earlier one.
    Figure {
        /// Whether the stage has all that it counts.
        complete: bool,
    },
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is kept.
    Taken,
    /// It is not kept: too many, too soon, or nobody reads.
    Dropped,
    /// Its stage comes before the present one, or is none of this kind of job.
    OutOfOrder,
}

/// What a reader finds.
#[derive(Debug, PartialEq)]
pub(super) enum Popped {
    /// The next event with its number.
    Event(u64, Event),
    /// Nothing yet.
    Empty,
    /// Nothing ever again.
    Ended,
}

struct Pending {
    event: Event,
    replaceable: bool,
}

pub(super) struct EventQueue {
    order: &'static [Stage],
    capacity: usize,
    interval: Duration,
    pending: VecDeque<Pending>,
    position: Option<usize>,
    began_anew: bool,
    last_figure: Option<(Instant, bool)>,
    last_id: u64,
    history: Vec<NumberedEvent>,
    sealed: bool,
    terminal: Option<Event>,
    abandoned: bool,
}

impl EventQueue {
    pub(super) fn new(kind: JobKind, capacity: usize, interval: Duration) -> Self {
        Self {
            order: Stage::order(kind),
            capacity,
            interval,
            pending: VecDeque::new(),
            position: None,
            began_anew: false,
            last_figure: None,
            last_id: 0,
            history: Vec::new(),
            sealed: false,
            terminal: None,
            abandoned: false,
        }
    }

    /// The stage that was reported last.
    pub(super) fn stage(&self) -> Option<Stage> {
        self.position.map(|position| self.order[position])
    }

    /// The same; before there is one, the first.
    pub(super) fn stage_or_first(&self) -> Stage {
        self.order[self.position.unwrap_or_default()]
    }

    /// From now on stages that were passed are no fault: the job passes them again.
    pub(super) fn begin_anew(&mut self) {
        self.began_anew = true;
    }

    /// Takes or drops a progress event.
    pub(super) fn offer(&mut self, stage: Stage, weight: Weight, event: Event, now: Instant) -> Admission {
        if self.terminal.is_some() || self.sealed {
            return Admission::Dropped;
        }
        let position = self.order.iter().position(|known| *known == stage);
        if position < self.position && position.is_some() && self.began_anew {
            return Admission::Dropped;
        }
        if position.is_none() || position < self.position {
            return Admission::OutOfOrder;
        }
        if position > self.position {
            self.position = position;
            self.last_figure = None;
            return self.keep(event, false);
        }
        match weight {
            Weight::Note => self.keep_if_room(event, false),
            Weight::Word => self.keep(event, false),
            Weight::Figure { complete } if self.is_due(complete, now) => {
                self.last_figure = Some((now, complete));
                self.keep_latest(event)
            }
            Weight::Figure { .. } => Admission::Dropped,
        }
    }

    /// Adds the terminal event; false where there is one already.
    pub(super) fn finish(&mut self, event: Event) -> bool {
        if self.terminal.is_some() {
            return false;
        }
        self.terminal = Some(event.clone());
        self.keep(event, false);
        true
    }

    /// Takes the next event out, and numbers it: what was dropped leaves no gap in the numbers.
    pub(super) fn pop(&mut self) -> Popped {
        match self.pending.pop_front() {
            Some(pending) => {
                self.remember(pending.event.clone());
                Popped::Event(self.last_id, pending.event)
            }
            None if self.terminal.is_some() => Popped::Ended,
            None => Popped::Empty,
        }
    }

    /// The next event after this number, for whoever reads along: events have their numbers once the first reader took them, or is gone.
    ///
    /// Progress that is not kept is left out; the terminal event never is.
    pub(super) fn after(&self, after: u64) -> Popped {
        let kept = self.history.partition_point(|it| it.id <= after);
        if let Some(it) = self.history.get(kept) {
            return Popped::Event(it.id, it.event.clone());
        }
        let Some(terminal) = &self.terminal else {
            return Popped::Empty;
        };
        // Nothing is added or replaced any more: what waits for the first reader has its numbers.
        let seen = after.saturating_sub(self.last_id);
        let waiting = usize::try_from(seen)
            .ok()
            .and_then(|index| self.pending.get(index));
        if let Some(waiting) = waiting {
            return Popped::Event(self.last_id + seen + 1, waiting.event.clone());
        }
        match self.pending.is_empty() && self.last_id > after {
            true => Popped::Event(self.last_id, terminal.clone()),
            false => Popped::Ended,
        }
    }

    /// Nobody reads any more: events are kept for the outcome only.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        while let Some(pending) = self.pending.pop_front() {
            self.remember(pending.event);
        }
    }

    /// Takes no more progress, and gives all events so far with the number of the next.
    pub(super) fn seal(&mut self) -> (Vec<NumberedEvent>, u64) {
        self.sealed = true;
        let mut events = self.history.clone();
        let mut id = self.last_id;
        for pending in &self.pending {
            id += 1;
            events.push(NumberedEvent {
                id,
                event: pending.event.clone(),
            });
        }
        (events, id + 1)
    }

    /// Numbers an event, and keeps it while there is room.
    fn remember(&mut self, event: Event) {
        self.last_id += 1;
        if self.history.len() < MAX_HISTORY {
            self.history.push(NumberedEvent {
                id: self.last_id,
                event,
            });
        }
    }

    /// A figure is due after the interval; the first one that is complete is not held back.
    fn is_due(&self, complete: bool, now: Instant) -> bool {
        self.last_figure.is_none_or(|(at, was_complete)| {
            now.duration_since(at) >= self.interval || (complete && !was_complete)
        })
    }

    fn keep_latest(&mut self, event: Event) -> Admission {
        if self.pending.back().is_some_and(|last| last.replaceable) {
            self.pending.pop_back();
            return self.keep(event, true);
        }
        self.keep_if_room(event, true)
    }

    fn keep_if_room(&mut self, event: Event, replaceable: bool) -> Admission {
        if self.pending.len() >= self.capacity {
            return Admission::Dropped;
        }
        self.keep(event, replaceable)
    }

    fn keep(&mut self, event: Event, replaceable: bool) -> Admission {
        if self.abandoned {
            self.remember(event);
            return Admission::Dropped;
        }
        self.pending.push_back(Pending { event, replaceable });
        Admission::Taken
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
