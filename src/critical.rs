//! The critical path of a run: what it waited for.

use crate::run::RecordedSpec;

/// The places of what was waited for on the way to some specs, in the order in which it was done.
///
/// Backwards from what ended last: before something began, that was waited for which had ended last. Work begins as soon as
/// what it needs is there, so only where as much is done at once as may be does this name something that merely held a place.
pub(crate) fn path(specs: &[RecordedSpec], roots: Vec<usize>) -> Vec<usize> {
    let start = |place: usize| specs[place].started_us.unwrap_or_default();
    let end = |place: usize| start(place) + specs[place].cost_us;
    let mut timed = reached(specs, roots);
    timed.retain(|place| specs[*place].started_us.is_some() && specs[*place].cost_us > 0);
    timed.sort_by_key(|place| (end(*place), start(*place), *place));
    let mut waited: Vec<usize> = Vec::new();
    let mut next_start = u64::MAX;
    for place in timed.into_iter().rev() {
        if end(place) <= next_start {
            next_start = start(place);
            waited.push(place);
        }
    }
    waited.reverse();
    waited
}

/// All that some specs stand on, and they.
fn reached(specs: &[RecordedSpec], roots: Vec<usize>) -> Vec<usize> {
    let mut seen = vec![false; specs.len()];
    let mut reached = Vec::new();
    let mut stack = roots;
    while let Some(place) = stack.pop() {
        if specs.get(place).is_some() && !std::mem::replace(&mut seen[place], true) {
            reached.push(place);
            stack.extend(specs[place].asked.iter().map(|below| *below as usize));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use doge_storage::Key;

    use super::*;
    use crate::kind::Role;
    use crate::run::Outcome;

    fn spec(name: &str, time: Option<(u64, u64)>, asked: &[u32]) -> RecordedSpec {
        RecordedSpec {
            key: Key::from_bytes([0; 32]),
            kind: String::new(),
            role: Role::Query,
            name: name.to_owned(),
            label: None,
            outcome: Outcome::Executed,
            reason: None,
            found: Vec::new(),
            error: None,
            value: None,
            started_us: time.map(|(start, _)| start),
            cost_us: time.map_or(0, |(_, cost)| cost),
            saved_us: 0,
            asked: asked.to_vec(),
        }
    }

    #[test]
    fn what_ended_last_was_waited_for_and_before_it_what_ended_last_before_it_began() {
        let specs = [
            spec("install", None, &[1, 2, 5]),
            spec("build a", None, &[3]),
            spec("build b", None, &[3, 4]),
            spec("look", Some((0, 10)), &[]),
            spec("compile b", Some((12, 50)), &[]),
            spec("link", Some((70, 20)), &[]),
        ];
        let names = |path: Vec<usize>| path.into_iter().map(|place| specs[place].name.clone()).collect::<Vec<_>>();
        assert_eq!(names(path(&specs, vec![0])), ["look", "compile b", "link"]);
    }

    #[test]
    fn what_ran_beside_something_that_took_longer_was_not_waited_for() {
        let specs = [
            spec("all", None, &[1, 2, 3, 4]),
            spec("short", Some((0, 10)), &[]),
            spec("long", Some((0, 100)), &[]),
            spec("after", Some((100, 1)), &[]),
            spec("late and short", Some((20, 10)), &[]),
        ];
        assert_eq!(path(&specs, vec![0]), [2, 3]);
    }
}
