//! `lastgood metrics`: what the metrics file would hold now.

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::ops::backend::Backend;

pub(super) async fn metrics(settings: &Settings) -> Result<Exit, Failure> {
    out::text(&Backend::open(settings).await?.status().await?.metrics())
}
