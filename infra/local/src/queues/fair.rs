//! Messages that a poller holds, in the order of SQS's fair queues: groups with few messages in flight first, and within a group in order
//! of arrival.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// What waits, and how much of each group is under way.
pub(super) struct Fair<T> {
    groups: HashMap<String, Group<T>>,
    /// The groups that something waits of: by how much is under way, then by who waits longest.
    order: BTreeSet<(usize, u64, String)>,
    came: u64,
    waiting: usize,
}

struct Group<T> {
    waiting: VecDeque<(u64, T)>,
    under_way: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Fair<T> {
        Fair {
            groups: HashMap::new(),
            order: BTreeSet::new(),
            came: 0,
            waiting: 0,
        }
    }
}

impl<T> Fair<T> {
    /// One that has come.
    pub(super) fn push(&mut self, group: String, item: T) {
        self.came += 1;
        self.waiting += 1;
        let came = self.came;
        self.change(group, |group| group.waiting.push_back((came, item)));
    }

    /// The next one, which is under way from now on, and its group.
    pub(super) fn next(&mut self) -> Option<(String, T)> {
        let (_, _, name) = self.order.first()?.clone();
        let taken = self.change(name.clone(), |group| {
            group.under_way += 1;
            group.waiting.pop_front()
        });
        self.waiting -= 1;
        taken.map(|(_, item)| (name, item))
    }

    /// One of this group is not under way any more.
    pub(super) fn ended(&mut self, group: String) {
        self.change(group, |group| {
            group.under_way = group.under_way.saturating_sub(1);
        });
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Those that wait, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let groups = self.groups.values();
        groups.flat_map(|group| group.waiting.iter().map(|(_, item)| item))
    }

    fn change<R>(&mut self, name: String, change: impl FnOnce(&mut Group<T>) -> R) -> R {
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group {
            waiting: VecDeque::new(),
            under_way: 0,
        });
        if let Some((came, _)) = group.waiting.front() {
            self.order.remove(&(group.under_way, *came, name.clone()));
        }
        let result = change(group);
        if let Some((came, _)) = group.waiting.front() {
            self.order.insert((group.under_way, *came, name));
        } else if group.under_way == 0 {
            self.groups.remove(&name);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_little_under_way_come_first_and_each_in_its_order() {
        let mut fair = Fair::default();
        for number in 0..4 {
            fair.push("loud".into(), format!("loud {number}"));
        }
        fair.push("quiet".into(), "quiet 0".into());
        let mut next = || fair.next().expect("one waits").1;
        assert_eq!(next(), "loud 0");
        assert_eq!(next(), "quiet 0");
        assert_eq!(next(), "loud 1");
        assert_eq!(next(), "loud 2");
        fair.push("quiet".into(), "quiet 1".into());
        fair.ended("quiet".into());
        fair.push("new".into(), "new 0".into());
        assert_eq!(fair.waiting(), 3);
        let mut next = || fair.next().expect("one waits").1;
        assert_eq!(
            [next(), next(), next()],
            ["quiet 1", "new 0", "loud 3"].map(String::from)
        );
        assert!(fair.next().is_none());
    }

    #[test]
    fn nothing_is_kept_of_groups_that_are_over() {
        let mut fair = Fair::default();
        for number in 0..100 {
            fair.push(number.to_string(), number);
        }
        while let Some((group, _)) = fair.next() {
            fair.ended(group);
        }
        assert_eq!(
            (fair.groups.len(), fair.order.len(), fair.waiting()),
            (0, 0, 0)
        );
    }
}
