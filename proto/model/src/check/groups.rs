//! Groups of processes that wait for each other, in one walk over all of them however long their chains are (Tarjan's
//! algorithm, without recursion: documents may be deep).

use alloc::{collections::BTreeMap, vec, vec::Vec};

use crate::id::ProcessName;

/// Whose group it is by number, for members of groups of two or more: each of these comes after each other one, by some
/// way. `before` says whom a process comes after, and is asked once for each.
pub(super) fn groups<'a>(
    begin: impl Iterator<Item = &'a ProcessName>,
    before: impl Fn(&ProcessName) -> Vec<&'a ProcessName>,
) -> BTreeMap<&'a ProcessName, usize> {
    let mut walk = Walk::default();
    for name in begin {
        if walk.numbers.contains_key(name) {
            continue;
        }
        let mut path = vec![(walk.enter(name), before(name).into_iter())];
        while let Some((here, next)) = path.last_mut().map(|(here, nexts)| (*here, nexts.next())) {
            match next.map(|next| (next, walk.numbers.get(next).copied())) {
                Some((next, None)) => path.push((walk.enter(next), before(next).into_iter())),
                Some((_, Some(number))) if walk.open[number] => walk.lowest[here] = walk.lowest[here].min(number),
                Some(_) => {}
                None => {
                    path.pop();
                    if let Some((parent, _)) = path.last() {
                        walk.lowest[*parent] = walk.lowest[*parent].min(walk.lowest[here]);
                    }
                    walk.leave(here);
                }
            }
        }
    }
    walk.groups
}

/// Processes by the number under which each was first met.
#[derive(Default)]
struct Walk<'a> {
    numbers: BTreeMap<&'a ProcessName, usize>,
    names: Vec<&'a ProcessName>,
    /// The lowest number that each can be followed to within what is open.
    lowest: Vec<usize>,
    /// Those whose group is not known yet, and their numbers in order.
    open: Vec<bool>,
    waiting: Vec<usize>,
    groups: BTreeMap<&'a ProcessName, usize>,
}

impl<'a> Walk<'a> {
    fn enter(&mut self, name: &'a ProcessName) -> usize {
        let number = self.names.len();
        self.numbers.insert(name, number);
        self.names.push(name);
        self.lowest.push(number);
        self.open.push(true);
        self.waiting.push(number);
        number
    }

    /// Everything behind `here` has been walked. Where it leads nowhere lower, it closes a group.
    fn leave(&mut self, here: usize) {
        if self.lowest[here] != here {
            return;
        }
        let from = self.waiting.iter().rposition(|number| *number == here).unwrap_or_default();
        let members = self.waiting.split_off(from);
        for member in &members {
            self.open[*member] = false;
            if members.len() > 1 {
                self.groups.insert(self.names[*member], here);
            }
        }
    }
}
