//! Opens the object store with the configured settings. It sends no request.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::Certificate;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::credentials::Credentials;
use crate::config::object_url::{ObjectUrl, Scheme};
use crate::config::settings;
use crate::sys::files;

/// A bundle of authorities.
const MAX_PEM: u64 = 1 << 20;
/// Between reaching for the store and its taking the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// One request is tried so often again by itself; what still fails then waits for the next round, half a minute at least.
const RETRIES: usize = 4;
/// S3 takes a signature of this region where it knows none, and so do those that only speak like it.
const REGION: &str = "us-east-1";

/// What every store of the library is.
pub(super) trait Store: ObjectStore + MultipartStore {}
impl<S: ObjectStore + MultipartStore> Store for S {}

/// Opens a store.
///
/// # Errors
/// A sentence.
pub(super) fn open(
    settings: &settings::Remote,
    place: &ObjectUrl,
    credentials: &Credentials,
) -> Result<Arc<dyn Store>, String> {
    let options = options(settings)?;
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: settings.stall_timeout,
    };
    let bucket = &place.bucket;
    let get = |key| credentials.get(key);
    // Not one of the builders' `from_env`: any variable of theirs would then have a say, such as one that allows no TLS.
    let opened = match place.scheme {
        Scheme::S3 => {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_region(settings.region.as_deref().unwrap_or(REGION))
                .with_virtual_hosted_style_request(!settings.path_style)
                .with_client_options(options)
                .with_retry(retry);
            if let Some(endpoint) = &settings.endpoint {
                // The library wants to be told the host as it is.
                let host = match (settings.path_style, endpoint.split_once("://")) {
                    (false, Some((scheme, host))) => format!("{scheme}://{bucket}.{host}"),
                    _ => endpoint.clone(),
                };
                builder = builder.with_endpoint(host);
            }
            match (get("access-key-id"), get("secret-access-key")) {
                (Some(id), Some(secret)) => builder = builder.with_access_key_id(id).with_secret_access_key(secret),
                (None, None) => {}
                (Some(_), None) => return Err("access-key-id is given without secret-access-key".to_owned()),
                (None, Some(_)) => return Err("secret-access-key is given without access-key-id".to_owned()),
            }
            if let Some(token) = get("session-token") {
                builder = builder.with_token(token);
            }
            builder.build().map(|store| Arc::new(store) as Arc<dyn Store>)
        }
        Scheme::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_client_options(options)
                .with_retry(retry);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            if let Some(account) = get("service-account") {
                builder = builder.with_service_account_path(account);
            }
            builder.build().map(|store| Arc::new(store) as Arc<dyn Store>)
        }
        Scheme::Azure => {
            let mut builder = MicrosoftAzureBuilder::new()
                .with_container_name(bucket)
                .with_allow_http(settings.allow_http)
                .with_client_options(options)
                .with_retry(retry);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            if let Some(account) = get("account") {
                builder = builder.with_account(account);
            }
            if let Some(key) = get("account-key") {
                builder = builder.with_access_key(key);
            }
            if let Some(token) = get("sas-token") {
                builder = builder.with_config(object_store::azure::AzureConfigKey::SasKey, token);
            }
            builder.build().map(|store| Arc::new(store) as Arc<dyn Store>)
        }
    };
    opened.map_err(|error| credentials.without(&format!("{place} cannot be opened: {error}")))
}

fn options(settings: &settings::Remote) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::new()
        .with_allow_http(settings.allow_http)
        // A large object takes its time; what has a deadline is the silence in between, and the whole.
        .with_timeout_disabled()
        .with_read_timeout(settings.stall_timeout)
        .with_connect_timeout(CONNECT.min(settings.stall_timeout));
    if let Some(file) = &settings.ca_file {
        let pem = files::read_bounded(file, MAX_PEM).map_err(|error| error.to_string())?;
        let authorities = Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("{} holds no certificates in PEM: {error}", file.display()))?;
        if authorities.is_empty() {
            return Err(format!("{} holds no certificate in PEM", file.display()));
        }
        options = authorities.into_iter().fold(options, ClientOptions::with_root_certificate);
        options = options.with_no_system_certificates(true);
    }
    Ok(options)
}
