//! What is to happen, in the order of its time; what has the same time happens in the order in which it was put in.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::world::Event;

/// Events to come.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Due>,
    put: u64,
}

#[derive(Debug)]
struct Due {
    at: u64,
    number: u64,
    event: Event,
}

impl Queue {
    /// Puts in what happens at this time.
    pub fn put(&mut self, at: u64, event: Event) {
        self.put += 1;
        self.heap.push(Due { at, number: self.put, event });
    }

    /// Takes out the next one, with its time, unless that is later than this.
    pub fn next_until(&mut self, end: u64) -> Option<(u64, Event)> {
        self.heap.peek().filter(|due| due.at <= end)?;
        self.heap.pop().map(|due| (due.at, due.event))
    }

    /// Keeps some and drops the others.
    pub fn retain(&mut self, keep: impl Fn(&Event) -> bool) {
        self.heap.retain(|due| keep(&due.event));
    }
}

/// The earliest is the greatest, which a heap gives out first.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_one_time_what_was_put_first() {
        let mut queue = Queue::default();
        for (at, operator) in [(7, 0), (3, 1), (7, 2), (3, 3), (9, 4)] {
            queue.put(at, Event::Operate { operator });
        }
        queue.put(3, Event::Fault);
        queue.retain(|event| !matches!(event, Event::Fault));
        let mut order = Vec::new();
        while let Some((at, Event::Operate { operator })) = queue.next_until(8) {
            order.push((at, operator));
        }
        assert_eq!(order, [(3, 1), (3, 3), (7, 0), (7, 2)]);
        assert_eq!(queue.next_until(9).map(|(at, _)| at), Some(9));
    }
}
