//! A manifest is changed for the worse.

use anyhow::Result;
use lastgood_lab::manifests::Component;

use crate::stage::Stage;

#[tokio::test]
async fn n1_an_unknown_flag_is_rolled_back_quarantined_and_reverted_at_once_when_written_again() -> Result<()> {
    let stage = Stage::adopted().await?;
    let good = stage.manifest(Component::ApiServer)?;
    let bad = stage.add_flag(Component::ApiServer, "--no-such-flag=1")?;
    stage.told("generation 2 is quarantined").await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.told("unknown flag: --no-such-flag").await?;
    stage.write(&Component::ApiServer.file(), &bad)?;
    stage.told("quarantined generation 2 stands again").await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}
