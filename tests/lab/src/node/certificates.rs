//! The certificates of a node in the hand of a test.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Node;

const PKI: &str = "/etc/kubernetes/pki";

impl Node {
    /// Signs a serving certificate below /etc/kubernetes/pki (`apiserver`) anew, for the same key, that ended yesterday.
    ///
    /// # Errors
    /// When openssl refuses, or the file cannot be replaced.
    pub fn end_certificate(&self, name: &str) -> Result<()> {
        let openssl = |args: &[&str]| -> Result<()> {
            let out = Command::new("openssl").args(args).current_dir(self.path(PKI)).output();
            let out = out.context("cannot run openssl (package openssl)")?;
            ensure!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
            Ok(())
        };
        let beside = |end: &str| self.dir().join(format!("ended.{end}")).to_string_lossy().into_owned();
        let (request, extensions, ended) = (beside("csr"), beside("ext"), beside("crt"));
        fs::write(&extensions, "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")?;
        let key = format!("{name}.key");
        openssl(&["req", "-new", "-key", &key, "-subj", &format!("/CN={name}"), "-out", &request])?;
        let sign = ["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "7"];
        openssl(&[&sign[..], &["-days", "-1", "-extfile", &extensions, "-out", &ended]].concat())?;
        let path = self.path(PKI).join(format!("{name}.crt"));
        fs::rename(&ended, &path).with_context(|| format!("cannot replace {}", path.display()))
    }
}
