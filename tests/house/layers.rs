//! The layers of the rooms, held against the import graph.

use std::collections::BTreeMap;
use std::path::Path;

use super::graph::Graph;

/// The rooms of each layer, the lowest first. A room imports from lower layers, and from its own where that makes no cycle.
const LAYERS: [&[&str]; 9] = [
    &["model", "rules"],
    &["sys"],
    &["config", "journal", "etcd", "cri"],
    &["observe", "act", "record", "judge", "decide"],
    &["feature", "hook", "peer", "snapshots"],
    &["report"],
    &["agent", "control"],
    &["ops"],
    &["cli"],
];

/// Functions of values: whatever they need of the world is an argument.
const PURE: [&str; 2] = ["judge", "decide"];

fn graph() -> Graph {
    Graph::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn room(module: &str) -> Option<String> {
    module.split("::").next().filter(|room| !room.is_empty()).map(str::to_owned)
}

/// The modules without the edges to their own parents: a child uses what its parent defines for all of them.
fn without_parents(graph: Graph) -> Graph {
    let is_below = |module: &str, parent: &str| parent.is_empty() || module.starts_with(&format!("{parent}::"));
    let edges = graph.edges.into_iter().map(|(module, used)| {
        let used = used.into_iter().filter(|used| !is_below(&module, used)).collect();
        (module, used)
    });
    Graph { edges: edges.collect() }
}

#[test]
fn rooms_import_from_below() {
    let layers: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(layer, rooms)| rooms.iter().map(move |room| (*room, layer))).collect();
    let rooms = graph().grouped(room);
    let unknown: Vec<_> = rooms.edges.keys().filter(|room| !layers.contains_key(room.as_str())).collect();
    assert!(unknown.is_empty(), "rooms without a layer: {unknown:?}");
    let gone: Vec<_> = layers.keys().filter(|room| !rooms.edges.contains_key(**room)).collect();
    assert!(gone.is_empty(), "layers of rooms that are gone: {gone:?}");
    for (room, used) in &rooms.edges {
        for below in used {
            assert!(layers[below.as_str()] <= layers[room.as_str()], "{room} imports from {below}, a layer above it");
        }
    }
    for pure in PURE {
        let used: Vec<_> = rooms.edges[pure].iter().collect();
        assert_eq!(used, ["model"], "{pure} is a function of values");
    }
    assert_eq!(rooms.cycles(), Vec::<Vec<String>>::new(), "rooms that import from each other");
}

#[test]
fn no_modules_use_each_other() {
    assert_eq!(without_parents(graph()).cycles(), Vec::<Vec<String>>::new());
}

/// `tests/graph` prints it.
#[test]
#[ignore = "prints"]
fn print() {
    let graph = graph();
    let (modules, edges) =
        (graph.edges.len(), graph.edges.values().map(std::collections::BTreeSet::len).sum::<usize>());
    println!("{modules} modules, {edges} edges");
    let rooms = graph.grouped(room);
    for (layer, names) in LAYERS.iter().enumerate().rev() {
        for name in *names {
            let used: Vec<_> = rooms.edges.get(*name).into_iter().flatten().map(String::as_str).collect();
            println!("{layer} {name:9} -> {}", used.join(" "));
        }
    }
    for cycle in rooms.cycles().into_iter().chain(without_parents(graph).cycles()) {
        println!("cycle of {}: {}", cycle.len(), cycle.join(" "));
    }
}
