//! `lastgood etcd accept-data`: the operator accepts the data that etcd serves, although they are not those on record.
//! The plan is shown first.

use crate::cli::{ConfirmArgs, Exit, Failure, out, rollback};
use crate::config::Settings;
use crate::control::Execution;
use crate::model::Request;
use crate::ops::backend::Backend;
use crate::ops::follow;
use crate::report::Format;

/// Shows what follows, asks, and does it.
pub(super) async fn accept(settings: &Settings, care: ConfirmArgs) -> Result<Exit, Failure> {
    let request = Request::AcceptData { component: None };
    let mut backend = Backend::open(settings).await?;
    let planned = backend.perform(request.clone(), Execution::DryRun, &mut follow::tell).await?;
    if care.dry_run {
        return out::text(&care.output.print(&planned, |planned| planned.text())?);
    }
    if care.output != Format::Text {
        return Err(Failure { exit: Exit::Usage, sentence: "-o goes with --dry-run".to_owned() });
    }
    out::text(&planned.text())?;
    if !care.yes && !rollback::agreed()? {
        return Err(Failure { exit: Exit::Refused, sentence: "nothing was changed".to_owned() });
    }
    backend.perform(request, Execution::ForReal, &mut follow::tell).await?;
    out::text("accepted; `lastgood status` shows what follows\n")
}
