//! Configuration: fragments from files, merged with the defaults, validated into [`Settings`].
//!
//! ```text
//!   config.toml ─┐
//!   config.d/*.toml ─┴─▶ fragments (key, value, file:line) ──later wins──▶ merged ──validate──▶ Loaded
//!                              │                                            │            settings + origins
//!                              └───────────── every mistake of every file ──┴──▶ Mistakes
//! ```
//!
//! A fragment is a list of given keys rather than a struct of options: [`keys::KEYS`] is the one place that names each
//! key, its kind, its meaning and its field, so that reading, `config show`, lastgood.toml(5) and the shipped
//! example cannot drift apart.

pub mod duration;
pub mod keys;
pub mod load;
pub mod loaded;
pub mod mistake;
pub mod place;
pub(crate) mod recipient;
pub mod settings;
pub mod show;
pub mod size;
mod validate;

pub use crate::config::loaded::{Loaded, Origin};
pub use keys::KEYS;
pub use load::{DEFAULT_FILE, load, load_leniently};
pub use mistake::{Mistake, Mistakes};
pub use settings::Settings;
pub use show::example;
