//! Judge and decide together, against a node that exists only here: its kubelet, its pods and its hands take no time but
//! the time a situation gives them.

mod blame;
mod files;
mod holds;
mod interrupted;
mod members;
mod never;
mod others;
mod pauses;
mod product;
mod renewal;
mod replacing;
mod requests;
mod sequences;
mod stalls;
mod surroundings;
mod trials;
mod undecoded;
mod upgrades;
mod vacancy;
mod versions;
mod world;
mod wrong_data;
