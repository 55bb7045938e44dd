//! A graph as a picture.

use std::fmt::Write as _;

use doge_queries::doge::{Graph, Outcome};
use layout::adt::dag::NodeHandle;
use layout::core::base::Orientation;
use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;
use miette::miette;

use crate::picture::page::{escaped, title_of};

/// How many specs a picture may have: laying out more takes minutes, and nobody finds anything in it.
const MOST: usize = 600;

/// How wide a letter is, and how high a line, in pixels.
const LETTER: f64 = 7.3;
const LINE: f64 = 16.0;
const MARGIN: f64 = 12.0;

/// The layout draws nothing: only where things are is taken of it.
struct Nowhere;

impl RenderBackend for Nowhere {
    fn draw_rect(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>, _: Option<ClipHandle>) {}
    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}
    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}
    fn draw_text(&mut self, _: Point, _: &str, _: &StyleAttr) {}
    fn draw_arrow(
        &mut self,
        _: &[(Point, Point)],
        _: bool,
        _: (bool, bool),
        _: &StyleAttr,
        _: Option<String>,
        _: &str,
    ) {
    }
    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}

/// The picture of a graph.
pub(crate) fn picture(graph: &Graph) -> miette::Result<String> {
    if graph.nodes.len() > MOST {
        return Err(miette!(
            help = "`--only changed`, `--under`, `--above` and `--depth` show a part; `--format html` is made for large graphs",
            "the graph has {} specs, and a picture is made of {MOST} at most",
            graph.nodes.len()
        ));
    }
    if graph.nodes.is_empty() {
        return Ok(drawn(graph, &[], &[], &[]));
    }
    let mut plan = VisualGraph::new(Orientation::LeftToRight);
    let lines: Vec<[String; 2]> =
        graph.nodes.iter().map(|node| [format!("{}{}", node.sign(), node.spec.kind), title_of(&node.spec)]).collect();
    let sizes: Vec<Point> = lines
        .iter()
        .map(|lines| {
            let letters = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
            Point::new(letters as f64 * LETTER + 2.0 * MARGIN, 2.0 * LINE + MARGIN)
        })
        .collect();
    let handles: Vec<NodeHandle> = sizes
        .iter()
        .map(|size| {
            let element = Element::create(ShapeKind::new_box(""), StyleAttr::simple(), Orientation::LeftToRight, *size);
            plan.add_node(element)
        })
        .collect();
    for (place, node) in graph.nodes.iter().enumerate() {
        for below in node.spec.asked.iter().map(|below| *below as usize).filter(|below| *below != place) {
            plan.add_edge(Arrow::simple(""), handles[place], handles[below]);
        }
    }
    let placed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        plan.do_it(false, false, false, &mut Nowhere);
        handles.iter().map(|handle| plan.pos(*handle).center()).collect::<Vec<Point>>()
    }));
    let centers =
        placed.map_err(|_| miette!(help = "`--format dot` is laid out by Graphviz", "the graph cannot be laid out"))?;
    Ok(drawn(graph, &lines, &sizes, &spread(&centers, &sizes)))
}

/// The layout takes boxes for smaller than they are, so columns are moved apart until they fit.
fn spread(centers: &[Point], sizes: &[Point]) -> Vec<Point> {
    let mut columns: Vec<i64> = centers.iter().map(|center| center.x.round() as i64).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut left = MARGIN;
    let mut at = std::collections::BTreeMap::new();
    for column in columns {
        let members = || (0..centers.len()).filter(|place| centers[*place].x.round() as i64 == column);
        let width = members().map(|place| sizes[place].x).fold(0.0, f64::max);
        at.insert(column, left + width / 2.0);
        left += width + 5.0 * MARGIN;
    }
    let mut spread: Vec<Point> =
        centers.iter().map(|center| Point::new(at[&(center.x.round() as i64)], center.y)).collect();
    // And in a column, one below the other.
    for x in at.values() {
        let mut members: Vec<usize> = (0..spread.len()).filter(|place| spread[*place].x == *x).collect();
        members.sort_by(|a, b| spread[*a].y.total_cmp(&spread[*b].y).then(a.cmp(b)));
        let mut bottom = f64::MIN;
        for place in members {
            let half = sizes[place].y / 2.0;
            spread[place].y = spread[place].y.max(bottom + half);
            bottom = spread[place].y + half + MARGIN;
        }
    }
    let top = spread.iter().zip(sizes).map(|(center, size)| center.y - size.y / 2.0).fold(f64::MAX, f64::min);
    spread.iter_mut().for_each(|center| center.y += MARGIN - top);
    spread
}

fn drawn(graph: &Graph, lines: &[[String; 2]], sizes: &[Point], centers: &[Point]) -> String {
    let extent = |of: fn(Point) -> f64| {
        centers.iter().zip(sizes).map(|(center, size)| of(*center) + of(*size) / 2.0).fold(0.0, f64::max) + MARGIN
    };
    let legend = LINE * 2.0;
    let (width, height) = (extent(|point| point.x).max(640.0), extent(|point| point.y) + legend);
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\" font-family=\"monospace\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    );
    for (place, node) in graph.nodes.iter().enumerate() {
        for below in node.spec.asked.iter().map(|below| *below as usize) {
            let (from, to) = (centers[place], centers[below]);
            let (x1, x2) = (from.x + sizes[place].x / 2.0, to.x - sizes[below].x / 2.0);
            let bend = ((x2 - x1).abs() / 2.0).max(20.0);
            let _ = writeln!(
                svg,
                "<path d=\"M{x1:.1} {:.1} C{:.1} {:.1} {:.1} {:.1} {x2:.1} {:.1}\" fill=\"none\" stroke=\"#888888\"/>",
                from.y,
                x1 + bend,
                from.y,
                x2 - bend,
                to.y,
                to.y
            );
        }
    }
    for (place, node) in graph.nodes.iter().enumerate() {
        let (center, size) = (centers[place], sizes[place]);
        let (x, y) = (center.x - size.x / 2.0, center.y - size.y / 2.0);
        let _ = writeln!(
            svg,
            "<g><title>{}: {}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\" fill=\"{}\" \
             stroke=\"#444444\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555555\">{}</text><text x=\"{:.1}\" y=\"{:.1}\" \
             fill=\"#000000\">{}</text></g>",
            node.spec.outcome.word(),
            escaped(&node.spec.name),
            size.x,
            size.y,
            node.spec.outcome.color(),
            x + MARGIN,
            y + LINE + 2.0,
            escaped(&lines[place][0]),
            x + MARGIN,
            y + 2.0 * LINE + 2.0,
            escaped(&lines[place][1]),
        );
    }
    let mut x = MARGIN;
    for outcome in [Outcome::Executed, Outcome::CutOff, Outcome::Failed, Outcome::Observed, Outcome::Verified] {
        let y = height - LINE;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{}\" stroke=\"#444444\"/><text x=\"{:.1}\" \
             y=\"{y:.1}\" fill=\"#000000\">{}</text>",
            y - 11.0,
            outcome.color(),
            x + 18.0,
            outcome.word()
        );
        x += 110.0;
    }
    svg.push_str("</svg>\n");
    svg
}
