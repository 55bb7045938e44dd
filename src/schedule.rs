//! The schedule: who waits for what. The pure part of the planner; it evaluates nothing and starts nothing.
//!
//! A pending node is registered once, with the number of demands it still waits for; each demand knows its
//! waiters. At zero the node is ready again. So a parent is evaluated again only when all demands of its wave are
//! met, and nothing is quadratic in siblings.

use std::collections::VecDeque;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::node::{Demand, NodeIndex};

#[derive(Default)]
pub(crate) struct Schedule {
    ready: VecDeque<NodeIndex>,
    queued: FxHashSet<NodeIndex>,
    /// Pending nodes, and how many demands each still waits for.
    waiting: FxHashMap<NodeIndex, usize>,
    waiters: FxHashMap<Demand, Vec<NodeIndex>>,
    /// Work that somebody waits for and that was not started yet, in the order of discovery.
    to_start: VecDeque<NodeIndex>,
}

impl Schedule {
    /// Forgets everything; it is found again by walking from the live requests.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.queued.clear();
        self.waiting.clear();
        self.waiters.clear();
        self.to_start.clear();
    }

    /// The node is to be evaluated, unless it is pending: then it will be, in its time.
    pub(crate) fn want(&mut self, node: NodeIndex) {
        if !self.waiting.contains_key(&node) && self.queued.insert(node) {
            self.ready.push_back(node);
        }
    }

    pub(crate) fn next_ready(&mut self) -> Option<NodeIndex> {
        let node = self.ready.pop_front()?;
        self.queued.remove(&node);
        Some(node)
    }

    pub(crate) fn next_start(&mut self) -> Option<NodeIndex> {
        self.to_start.pop_front()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_waited_for(&self, demand: Demand) -> bool {
        self.waiters.contains_key(&demand)
    }

    /// The pending nodes that wait for the end of the work of `node`.
    pub(crate) fn waiters_of_run(&self, node: NodeIndex) -> &[NodeIndex] {
        self.waiters.get(&Demand::Run(node)).map_or(&[], Vec::as_slice)
    }

    /// The pending nodes that wait for the answer of `node`.
    pub(crate) fn waiters_of_answer(&self, node: NodeIndex) -> &[NodeIndex] {
        self.waiters.get(&Demand::Answer(node)).map_or(&[], Vec::as_slice)
    }

    /// Whether `node` waits for something, or is to be evaluated.
    pub(crate) fn is_pending_or_ready(&self, node: NodeIndex) -> bool {
        self.waiting.contains_key(&node) || self.queued.contains(&node)
    }

    /// `node` was found to be pending on `demands`. `is_running` tells which work need not be started.
    pub(crate) fn pend(&mut self, node: NodeIndex, demands: &[Demand], is_running: impl Fn(NodeIndex) -> bool) {
        self.waiting.insert(node, demands.len());
        for &demand in demands {
            let waiters = self.waiters.entry(demand).or_default();
            waiters.push(node);
            if waiters.len() == 1 {
                match demand {
                    Demand::Answer(child) => self.want(child),
                    Demand::Run(work) if is_running(work) => {}
                    Demand::Run(work) => self.to_start.push_back(work),
                }
            }
        }
    }

    /// A demand is met.
    pub(crate) fn wake(&mut self, demand: Demand) {
        for node in self.waiters.remove(&demand).unwrap_or_default() {
            let left = self.waiting.get_mut(&node).expect("invariant: a waiter is pending");
            *left -= 1;
            if *left == 0 {
                self.waiting.remove(&node);
                self.want(node);
            }
        }
    }

    /// The cycles of the wait graph that nothing outside of them can end: its sink components.
    ///
    /// Work is a node of the graph that waits for nothing, so a component that waits for work is no sink.
    pub(crate) fn cycles(&self) -> Vec<Vec<NodeIndex>> {
        // Answers and runs of one node are different vertices; a run is one that nothing leads out of.
        let mut graph: DiGraphMap<Demand, ()> = DiGraphMap::new();
        for (demand, waiters) in &self.waiters {
            for waiter in waiters {
                graph.add_edge(Demand::Answer(*waiter), *demand, ());
            }
        }
        tarjan_scc(&graph)
            .into_iter()
            .filter(|component| {
                let members: FxHashSet<Demand> = component.iter().copied().collect();
                let is_cycle = component.len() > 1 || graph.contains_edge(component[0], component[0]);
                is_cycle && component.iter().all(|member| graph.neighbors(*member).all(|next| members.contains(&next)))
            })
            .map(|component| component.into_iter().map(Demand::node).collect())
            .collect()
    }

    /// What `node` waits for among `members`.
    pub(crate) fn edges_within(&self, members: &FxHashSet<NodeIndex>) -> FxHashMap<NodeIndex, Vec<NodeIndex>> {
        let mut edges: FxHashMap<NodeIndex, Vec<NodeIndex>> = FxHashMap::default();
        for (demand, waiters) in &self.waiters {
            let Demand::Answer(to) = demand else { continue };
            if members.contains(to) {
                for from in waiters.iter().filter(|from| members.contains(from)) {
                    edges.entry(*from).or_default().push(*to);
                }
            }
        }
        edges
    }
}
