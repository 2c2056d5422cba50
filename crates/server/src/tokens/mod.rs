//! Who may ask for what: access tokens and their quotas.
