//! A picture of the graph: every spec, what became of it, and who asked whom.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::run::{Outcome, RecordedSpec, RunRecord};

/// The specs of a session or a run and the edges between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The specs, sorted by kind and name.
    pub nodes: Vec<RecordedSpec>,
}

impl Graph {
    /// The graph of a recorded run.
    pub fn of_run(record: &RunRecord) -> Self {
        Self::sorted(record.specs.clone())
    }

    /// Sorts the nodes, so that two pictures of one graph are equal whatever the order of asking was.
    pub(crate) fn sorted(nodes: Vec<RecordedSpec>) -> Self {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|a, b| {
            let of = |place: usize| (&nodes[place].kind, &nodes[place].name, nodes[place].key);
            of(*a).cmp(&of(*b))
        });
        let mut new_place = vec![0_u32; nodes.len()];
        for (new, old) in order.iter().enumerate() {
            new_place[*old] = new as u32;
        }
        let mut slots: Vec<Option<RecordedSpec>> = nodes.into_iter().map(Some).collect();
        let nodes = order
            .into_iter()
            .filter_map(|old| slots[old].take())
            .map(|mut node| {
                node.asked = node.asked.iter().filter_map(|place| new_place.get(*place as usize).copied()).collect();
                node.asked.sort_unstable();
                node.asked.dedup();
                node
            })
            .collect();
        Self { nodes }
    }

    /// The graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        let mut dot =
            String::from("digraph doge {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=monospace];\n");
        for (place, node) in self.nodes.iter().enumerate() {
            let color = match node.outcome {
                Outcome::Verified => "#d9ead3",
                Outcome::Executed => "#f9cb9c",
                Outcome::CutOff => "#fff2cc",
                Outcome::Observed => "#cfe2f3",
                Outcome::Failed => "#ea9999",
                Outcome::Pending => "#eeeeee",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                dot,
                "  n{place} [label=\"{}\\n{}\", fillcolor=\"{color}\"];",
                escaped(&node.kind),
                escaped(&node.name)
            );
        }
        for (place, node) in self.nodes.iter().enumerate() {
            for asked in &node.asked {
                let _ = writeln!(dot, "  n{place} -> n{asked};");
            }
        }
        dot.push_str("}\n");
        dot
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
