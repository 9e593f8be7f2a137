//! Judge and decide together, against a node that exists only here: its kubelet, its pods and its hands take no time but
//! the time a situation gives them.

mod interrupted;
mod members;
mod never;
mod others;
mod product;
mod sequences;
mod situations;
mod surroundings;
mod upgrades;
mod versions;
mod world;
