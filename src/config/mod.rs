//! Configuration: fragments from files, merged with the defaults, validated into [`Settings`].
//!
//! ```text
//!   config.toml ─┐
//!   config.d/*.toml ─┴─▶ fragments (key, value, file:line) ──later wins──▶ merged ──validate──▶ Loaded
//!                              │                                            │            settings + origins
//!                              └───────────── every mistake of every file ──┴──▶ Mistakes
//! ```
//!
//! A fragment is a list of given keys rather than a struct of options: a table of [`keys::Key`]s names each
//! key once, with its kind, its meaning and its field, so that reading, `config show`, lastgood.toml(5) and the shipped
//! example cannot drift apart. [`renamed::RENAMED`] has the names that keys had before: the loader takes them with a
//! warning, and [`migrate`] rewrites them.

pub mod duration;
pub mod keys;
pub mod load;
pub mod loaded;
pub mod migrate;
pub mod mistake;
pub mod object_url;
pub(crate) mod recipient;
pub mod renamed;
mod rewrite;
pub mod settings;
pub mod show;
pub mod size;
#[cfg(test)]
mod tests;
mod validate;

pub use crate::config::loaded::{Loaded, Origin};
pub use keys::Keys;
pub use load::{DEFAULT_FILE, load, load_leniently};
pub use mistake::{Mistake, Mistakes};
pub use renamed::OldName;
pub use settings::Settings;
pub use show::example;
