//! The vault's RSA keys in memory, by name and version.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPrivateKey, rand_core::OsRng, sha2::Sha256, traits::PublicKeyParts};
use serde_json::{Value, json};
use sha1::Sha1;
use url::Url;
use uuid::Uuid;

use super::VaultError;

/// The versions of each key, oldest first.
#[derive(Default)]
pub(super) struct Keys(BTreeMap<String, Vec<Version>>);

pub(super) struct Version {
    pub(super) id: String,
    key: RsaPrivateKey,
    pub(super) enabled: bool,
    pub(super) operations: Vec<String>,
    expires: Option<i64>,
    created: u64,
}

impl Keys {
    /// Adds a version; returns its id.
    pub(super) fn add(&mut self, name: &str, key: RsaPrivateKey, expires: Option<i64>) -> String {
        let id = Uuid::new_v4().simple().to_string();
        let operations =
            ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"].map(ToOwned::to_owned).to_vec();
        let versions = self.0.entry(name.to_owned()).or_default();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + versions.len() as u64;
        versions.push(Version { id: id.clone(), key, enabled: true, operations, expires, created });
        id
    }

    /// Changes every version of a key.
    pub(super) fn change(&mut self, name: &str, change: impl Fn(&mut Version)) {
        self.0.get_mut(name).expect("the test has imported this key").iter_mut().for_each(change);
    }

    /// The version with this id, or the current version if the id is empty. Names are case-insensitive.
    fn find(&self, name: &str, version: &str) -> Result<&Version, VaultError> {
        let missing = VaultError(404, "KeyNotFound", None);
        let Some((_, versions)) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            return Err(missing);
        };
        let found =
            if version.is_empty() { versions.last() } else { versions.iter().find(|known| known.id == version) };
        found.ok_or(missing)
    }

    /// The public key and its attributes: a `KeyBundle`.
    pub(super) fn bundle(&self, vault: &Url, name: &str, version: &str) -> Result<Value, VaultError> {
        let found = self.find(name, version)?;
        if !found.enabled {
            return Err(VaultError(403, "Forbidden", Some("KeyDisabled")));
        }
        Ok(found.bundle(vault, name))
    }

    /// The current version of each key, without the version's id.
    pub(super) fn listed(&self, vault: &Url) -> Vec<Value> {
        let current = self.0.iter().filter_map(|(name, versions)| Some((name, versions.last()?)));
        current
            .map(|(name, key)| json!({"kid": format!("{vault}keys/{name}"), "attributes": key.attributes()}))
            .collect()
    }

    /// The versions of one key, in the order of their ids, which is not the order of their creation.
    pub(super) fn versions(&self, vault: &Url, name: &str) -> Result<Vec<Value>, VaultError> {
        let versions = self.0.get(name).ok_or(VaultError(404, "KeyNotFound", None))?;
        let mut versions: Vec<&Version> = versions.iter().collect();
        versions.sort_by_key(|key| &key.id);
        let listed = |key: &Version| json!({"kid": key.kid(vault, name), "attributes": key.attributes()});
        Ok(versions.into_iter().map(listed).collect())
    }

    /// Creates a new version of a key, with a generated RSA key.
    pub(super) fn create(&mut self, vault: &Url, name: &str, body: &Value) -> Result<Value, VaultError> {
        if body["kty"] != "RSA" {
            return Err(VaultError(400, "BadParameter", None));
        }
        let bits = body["key_size"].as_u64().unwrap_or(2048) as usize;
        let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(|_| VaultError(400, "BadParameter", None))?;
        self.add(name, key, body["attributes"]["exp"].as_i64());
        let created = self.0.get_mut(name).and_then(|versions| versions.last_mut()).expect("it was just added");
        if let Some(operations) = body["key_ops"].as_array() {
            created.operations = operations.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        }
        Ok(created.bundle(vault, name))
    }

    /// Enables or disables a version.
    pub(super) fn update(&mut self, vault: &Url, name: &str, id: &str, body: &Value) -> Result<Value, VaultError> {
        let missing = VaultError(404, "KeyNotFound", None);
        let mut versions = self.0.get_mut(name).into_iter().flatten();
        let version = versions.find(|version| version.id == id).ok_or(missing)?;
        version.enabled = body["attributes"]["enabled"].as_bool().unwrap_or(version.enabled);
        Ok(version.bundle(vault, name))
    }

    /// Performs an operation. An expired key still decrypts and unwraps.
    pub(super) fn operate(
        &self,
        vault: &Url,
        name: &str,
        version: &str,
        operation: &str,
        body: &Value,
    ) -> Result<Value, VaultError> {
        let found = self.find(name, version)?;
        if !found.enabled {
            return Err(VaultError(403, "Forbidden", Some("KeyDisabled")));
        }
        if !found.operations.iter().any(|permitted| permitted.eq_ignore_ascii_case(operation)) {
            return Err(VaultError(403, "Forbidden", Some("KeyOperationForbidden")));
        }
        let value = body["value"].as_str().and_then(|value| BASE64_URL_SAFE_NO_PAD.decode(value).ok());
        let (value, algorithm) = (value.unwrap_or_default(), body["alg"].as_str().unwrap_or_default());
        let result = match operation.to_ascii_lowercase().as_str() {
            "decrypt" | "unwrapkey" => found.decrypt(algorithm, &value),
            "encrypt" | "wrapkey" => found.encrypt(algorithm, &value),
            _ => None,
        };
        let result = result.ok_or(VaultError(400, "BadParameter", None))?;
        Ok(json!({"kid": found.kid(vault, name), "value": BASE64_URL_SAFE_NO_PAD.encode(result)}))
    }
}

impl Version {
    fn kid(&self, vault: &Url, name: &str) -> String {
        format!("{vault}keys/{name}/{}", self.id)
    }

    fn attributes(&self) -> Value {
        let mut attributes = json!({"enabled": self.enabled, "created": self.created, "updated": self.created,
                                    "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90});
        if let Some(expires) = self.expires {
            attributes["exp"] = expires.into();
        }
        attributes
    }

    fn bundle(&self, vault: &Url, name: &str) -> Value {
        let number = |number: &rsa::BigUint| BASE64_URL_SAFE_NO_PAD.encode(number.to_bytes_be());
        json!({"key": {"kid": self.kid(vault, name), "kty": "RSA", "key_ops": self.operations,
                       "n": number(self.key.n()), "e": number(self.key.e())},
               "attributes": self.attributes(), "tags": {}})
    }

    /// Decrypts `value`; `None` if it does not decrypt with this algorithm.
    fn decrypt(&self, algorithm: &str, value: &[u8]) -> Option<Vec<u8>> {
        match algorithm {
            "RSA-OAEP" => self.key.decrypt(Oaep::new::<Sha1>(), value).ok(),
            "RSA-OAEP-256" => self.key.decrypt(Oaep::new::<Sha256>(), value).ok(),
            "RSA1_5" => self.key.decrypt(Pkcs1v15Encrypt, value).ok(),
            _ => None,
        }
    }

    /// Encrypts `value`; `None` if it is too long or the algorithm is unknown.
    fn encrypt(&self, algorithm: &str, value: &[u8]) -> Option<Vec<u8>> {
        let public = self.key.to_public_key();
        match algorithm {
            "RSA-OAEP" => public.encrypt(&mut OsRng, Oaep::new::<Sha1>(), value).ok(),
            "RSA-OAEP-256" => public.encrypt(&mut OsRng, Oaep::new::<Sha256>(), value).ok(),
            "RSA1_5" => public.encrypt(&mut OsRng, Pkcs1v15Encrypt, value).ok(),
            _ => None,
        }
    }
}
