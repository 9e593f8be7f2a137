//! `lastgood metrics`: prints the current content of the metrics file.

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::ops::backend::Backend;

pub(super) async fn metrics(settings: &Settings) -> Result<Exit, Failure> {
    out::text(&Backend::open(settings).await?.status().await?.metrics())
}
