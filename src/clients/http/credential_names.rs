//! Which names of headers, variables and parameters imply credentials.

/// A credential, according to its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Anybody who has it can use it until it is changed.
    Password,
    /// A token, a key, a cookie.
    Token,
}

const PASSWORDS: [&str; 3] = ["password", "passwd", "passphrase"];

const TOKENS: [&str; 5] = ["authorization", "cookie", "token", "apikey", "signature"];

/// Words that mean a token only on their own.
const WORDS: [&str; 4] = ["auth", "credential", "credentials", "sig"];

/// What a name implies about the value, ignoring case, `-` and `_`.
pub fn credential(name: &str) -> Option<Credential> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let ends = |words: &[&str]| words.iter().any(|it| name.ends_with(it));
    let word = name.rsplit('-').next().unwrap_or_default();
    match name.as_str() {
        // Usually the run's id, which must stay readable.
        "idempotency-key" => None,
        _ if ends(&PASSWORDS) => Some(Credential::Password),
        _ if ends(&TOKENS) || ends(&["-key"]) || WORDS.contains(&word) => Some(Credential::Token),
        it if it.contains("secret") => Some(Credential::Token),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in [
            "Authorization",
            "X-Vault-Token",
            "X-ApiKey",
            "x-api-key",
            "Cookie",
            "client_secret_id",
            "X-Auth",
            "access_token",
            "AWS_SECRET_ACCESS_KEY",
            "sig",
        ] {
            assert_eq!(credential(name), Some(Credential::Token), "{name}");
        }
        for name in ["PGPASSWORD", "X-Password", "db_passwd"] {
            assert_eq!(credential(name), Some(Credential::Password), "{name}");
        }
        for name in [
            "Accept",
            "Idempotency-Key",
            "X-Team",
            "Content-Type",
            "keys",
            "page",
        ] {
            assert_eq!(credential(name), None, "{name}");
        }
    }
}
