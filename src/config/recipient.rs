//! An encryption recipient: the public half of an age key pair, as `age-keygen` prints it.

use age::x25519::Recipient;

/// How the secret half begins.
const SECRET: &str = "AGE-SECRET-KEY-";

/// Reads a recipient.
///
/// # Errors
/// A sentence that never repeats what was read: by mistake it may be the secret half.
pub(crate) fn parse(text: &str) -> Result<Recipient, String> {
    let secret = text.get(..SECRET.len()).is_some_and(|start| start.eq_ignore_ascii_case(SECRET));
    if secret {
        return Err(
            "holds an identity, the secret half of a key pair, which does not belong on this node: treat it as leaked, \
             and write the recipient (age1…) of a new one"
                .to_owned(),
        );
    }
    text.parse().map_err(|_| {
        "has an entry that is no recipient: write the public key that `age-keygen` prints, such as \"age1ql3z7…\"; \
         recipients of plugins and SSH keys are not supported"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;
    use age::x25519::Identity;

    use super::*;

    #[test]
    fn a_recipient_is_read_and_a_secret_is_not_repeated() {
        let identity = Identity::generate();
        assert!(parse(&identity.to_public().to_string()).is_ok());
        let secret = identity.to_string();
        let secret = secret.expose_secret();
        for text in [secret, &secret.to_lowercase(), "ssh-ed25519 AAAA", "age1", ""] {
            let error = parse(text).err().unwrap();
            assert!(text.len() < 5 || !error.contains(&text[..text.len().min(20)]), "{error}");
        }
        assert!(parse(secret).err().unwrap().contains("secret half"));
    }
}
