//! Judge and decide together, on a simulated node: its kubelet, its pods and its executor take only the time that a
//! situation gives them.

mod addresses;
mod assist;
mod attempts;
mod blame;
mod certificate_use;
mod environment;
mod files;
mod holds;
mod host_paths;
mod interrupted;
mod kubelet_probe;
mod members;
mod never;
mod newer_state;
mod others;
mod pauses;
mod predicted;
mod product;
mod renewal;
mod replacing;
mod requests;
mod second_sandbox;
mod sequences;
mod stalls;
mod suspension;
mod trials;
mod undecoded;
mod upgrades;
mod versions;
pub(crate) mod world;
mod wrong_data;
