//! Configuration: fragments from files, merged with the defaults, validated into [`Settings`].

pub mod settings;

pub use settings::Settings;
