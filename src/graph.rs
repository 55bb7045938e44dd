//! A picture of the graph: every spec, what became of it, and who asked whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::run::{Outcome, RecordedSpec, RunRecord};

/// The specs of a session or a run and the edges between them, or those of two runs beside each other.
///
/// The same specs give the same graph, whatever the order of asking was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The specs, sorted by kind and name.
    pub nodes: Vec<GraphNode>,
}

/// A spec in a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    /// The spec. What it asked are places in [`Graph::nodes`].
    #[serde(flatten)]
    pub spec: RecordedSpec,
    /// How it differs between two runs, if the graph is of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// How a spec differs between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Only the second run has it.
    Added,
    /// Only the first run has it.
    Removed,
    /// Both have it, with another key or another value.
    Changed,
    /// Both have it as it is.
    Same,
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Verified => "verified",
            Outcome::Executed => "executed",
            Outcome::CutOff => "cut off",
            Outcome::Observed => "observed",
            Outcome::Failed => "failed",
            Outcome::Pending => "pending",
        }
    }

    /// The colour that pictures show it in, as `#rrggbb`.
    pub fn color(self) -> &'static str {
        match self {
            Outcome::Verified => "#d9ead3",
            Outcome::Executed => "#f9cb9c",
            Outcome::CutOff => "#fff2cc",
            Outcome::Observed => "#cfe2f3",
            Outcome::Failed => "#ea9999",
            Outcome::Pending => "#eeeeee",
        }
    }
}

impl Difference {
    /// The sign for it.
    pub fn sign(self) -> &'static str {
        match self {
            Difference::Added => "+",
            Difference::Removed => "-",
            Difference::Changed => "~",
            Difference::Same => "=",
        }
    }
}

impl Graph {
    /// The graph of a recorded run; see [`crate::History::whole`] for one that did nothing.
    pub fn of_run(record: &RunRecord) -> Self {
        Self::sorted(record.specs.clone())
    }

    /// Sorts the nodes, so that two pictures of one graph are equal whatever the order of asking was.
    pub(crate) fn sorted(specs: Vec<RecordedSpec>) -> Self {
        Self::arranged(specs.into_iter().map(|spec| GraphNode { spec, difference: None }).collect())
    }

    fn arranged(nodes: Vec<GraphNode>) -> Self {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|a, b| {
            let of = |place: usize| (&nodes[place].spec.kind, &nodes[place].spec.name, nodes[place].spec.key);
            of(*a).cmp(&of(*b))
        });
        Self::picked(nodes, &order)
    }

    /// These nodes in this order, and the edges among them.
    fn picked(nodes: Vec<GraphNode>, order: &[usize]) -> Self {
        let mut new_place: Vec<Option<u32>> = vec![None; nodes.len()];
        for (new, old) in order.iter().enumerate() {
            new_place[*old] = Some(new as u32);
        }
        let mut slots: Vec<Option<GraphNode>> = nodes.into_iter().map(Some).collect();
        let nodes = order
            .iter()
            .filter_map(|old| slots[*old].take())
            .map(|mut node| {
                let asked = node.spec.asked.iter().filter_map(|place| *new_place.get(*place as usize)?);
                let asked: BTreeSet<u32> = asked.collect();
                node.spec.asked = asked.into_iter().collect();
                node
            })
            .collect();
        Self { nodes }
    }

    /// Two runs beside each other. Specs are the same if their keys are, or else their kind and label, or kind and name.
    pub fn difference(first: &RunRecord, second: &RunRecord) -> Self {
        let mut nodes: Vec<GraphNode> = Vec::new();
        let identity =
            |spec: &RecordedSpec| (spec.kind.clone(), spec.label.clone().unwrap_or_else(|| spec.name.clone()));
        let mut by_key = BTreeMap::new();
        let mut by_identity: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for spec in &second.specs {
            by_key.insert(spec.key, nodes.len());
            by_identity.entry(identity(spec)).or_default().push(nodes.len());
            nodes.push(GraphNode { spec: spec.clone(), difference: Some(Difference::Added) });
        }
        // Where each spec of the first run stands among all.
        let mut places: Vec<Option<usize>> = vec![None; first.specs.len()];
        let mut taken = vec![false; nodes.len()];
        for (place, spec) in first.specs.iter().enumerate() {
            if let Some(same) = by_key.get(&spec.key) {
                let is_same = nodes[*same].spec.value == spec.value;
                nodes[*same].difference = Some(if is_same { Difference::Same } else { Difference::Changed });
                (taken[*same], places[place]) = (true, Some(*same));
            }
        }
        for (place, spec) in
            first.specs.iter().enumerate().filter(|(place, _)| places[*place].is_none()).collect::<Vec<_>>()
        {
            let free = |other: &&usize| !taken[**other];
            let same = by_identity.get(&identity(spec)).and_then(|others| others.iter().find(free)).copied();
            places[place] = Some(match same {
                Some(same) => {
                    nodes[same].difference = Some(Difference::Changed);
                    taken[same] = true;
                    same
                }
                None => {
                    let spec = RecordedSpec { asked: Vec::new(), ..spec.clone() };
                    nodes.push(GraphNode { spec, difference: Some(Difference::Removed) });
                    nodes.len() - 1
                }
            });
        }
        for (place, spec) in first.specs.iter().enumerate() {
            let Some(above) = places[place] else { continue };
            let below = spec.asked.iter().filter_map(|below| places.get(*below as usize).copied().flatten());
            nodes[above].spec.asked.extend(below.map(|below| below as u32));
        }
        Self::arranged(nodes)
    }

    /// The places of the nodes that are meant.
    pub fn places(&self, is_meant: impl Fn(&RecordedSpec) -> bool) -> BTreeSet<usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| is_meant(&node.spec)).map(|(place, _)| place).collect()
    }

    /// These nodes and what they asked for, so many steps down; all of it if there is no limit.
    #[must_use]
    pub fn under(self, roots: &BTreeSet<usize>, depth: Option<usize>) -> Self {
        let below: Vec<Vec<usize>> =
            self.nodes.iter().map(|node| node.spec.asked.iter().map(|place| *place as usize).collect()).collect();
        self.reached(roots, &below, depth)
    }

    /// These nodes and who asked for them, so many steps up; all of it if there is no limit.
    #[must_use]
    pub fn above(self, roots: &BTreeSet<usize>, depth: Option<usize>) -> Self {
        let mut above: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            node.spec.asked.iter().for_each(|below| above[*below as usize].push(place));
        }
        self.reached(roots, &above, depth)
    }

    fn reached(self, roots: &BTreeSet<usize>, next: &[Vec<usize>], depth: Option<usize>) -> Self {
        let mut reached: BTreeSet<usize> = roots.clone();
        let mut edge: Vec<usize> = roots.iter().copied().collect();
        for _ in 0..depth.unwrap_or(usize::MAX) {
            edge =
                edge.iter().flat_map(|place| &next[*place]).copied().filter(|place| reached.insert(*place)).collect();
            if edge.is_empty() {
                break;
            }
        }
        Self::picked(self.nodes, &reached.into_iter().collect::<Vec<_>>())
    }

    /// Only what was done, failed, was seen to have changed and made something run, or is news, as [`crate::History::news`]
    /// says; in a graph of two runs, what differs.
    #[must_use]
    pub fn changed(self, is_news: impl Fn(&RecordedSpec) -> bool) -> Self {
        let reasons: BTreeSet<_> = self.nodes.iter().filter_map(|node| node.spec.changed_dependency()).collect();
        let is_changed = |node: &GraphNode| match node.difference {
            Some(difference) => difference != Difference::Same,
            None => {
                matches!(node.spec.outcome, Outcome::Executed | Outcome::CutOff | Outcome::Failed)
                    || reasons.contains(&node.spec.key)
                    || is_news(&node.spec)
            }
        };
        let places: Vec<usize> = (0..self.nodes.len()).filter(|place| is_changed(&self.nodes[*place])).collect();
        Self::picked(self.nodes, &places)
    }

    /// The graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        let mut dot =
            String::from("digraph doge {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=monospace];\n");
        for (place, node) in self.nodes.iter().enumerate() {
            let color = node.spec.outcome.color();
            // Writing to a string cannot fail.
            let _ = writeln!(
                dot,
                "  n{place} [label=\"{}{}\\n{}\", fillcolor=\"{color}\", tooltip=\"{}\"];",
                escaped(&node.sign()),
                escaped(&node.spec.kind),
                escaped(&node.spec.name),
                node.spec.outcome.word(),
            );
        }
        for (place, node) in self.nodes.iter().enumerate() {
            for asked in &node.spec.asked {
                let _ = writeln!(dot, "  n{place} -> n{asked};");
            }
        }
        dot.push_str("}\n");
        dot
    }

    /// The graph in the language of Mermaid, for pages that show it.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        let mut classes: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let label = format!("{}{}<br/>{}", node.sign(), entities(&node.spec.kind), entities(&node.spec.name));
            let _ = writeln!(text, "  n{place}[\"{label}\"]");
            let class = classes.entry(node.spec.outcome.word()).or_insert((node.spec.outcome.color(), Vec::new()));
            class.1.push(format!("n{place}"));
        }
        for (place, node) in self.nodes.iter().enumerate() {
            for asked in &node.spec.asked {
                let _ = writeln!(text, "  n{place} --> n{asked}");
            }
        }
        for (word, (color, members)) in classes {
            let class = word.replace(' ', "_");
            let _ = writeln!(text, "  classDef {class} fill:{color},stroke:#666,color:#000");
            let _ = writeln!(text, "  class {} {class}", members.join(","));
        }
        text
    }
}

impl GraphNode {
    /// What stands before the kind in pictures of two runs.
    pub fn sign(&self) -> String {
        self.difference.map(|difference| format!("{} ", difference.sign())).unwrap_or_default()
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    // No picture can show them, and a terminal would obey.
    text.replace(char::is_control, " ")
}

/// Mermaid takes entities in the way of HTML, with a hash.
fn entities(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '-' | '_' | '.' | '/' | '@' | ':' | ',' | '=' => safe.push(c),
            c => {
                let _ = write!(safe, "#{};", c as u32);
            }
        }
    }
    safe
}
