//! `lastgood gate`: a unit runs it before the kubelet. It always exits with 0, so that the kubelet starts.

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::ops::gate::gate;

pub(super) async fn run(settings: &Settings) -> Result<Exit, Failure> {
    for sentence in gate(settings).await {
        // A journal that blocks is no reason to keep the kubelet.
        let _ = out::text(&format!("{sentence}\n"));
    }
    Ok(Exit::Ok)
}
