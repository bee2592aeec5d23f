//! What a member is, by its path. The version stands in a member that may come last, so paths are told apart without it;
//! what does not belong to the version that turns out is ignored, like every member that is unknown.

use std::fmt;

/// The `dumpVersion` of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V1,
    V2,
    V3,
    V4,
    V5,
    V6,
}

impl Version {
    pub const ALL: [Version; 6] = [Version::V1, Version::V2, Version::V3, Version::V4, Version::V5, Version::V6];

    pub fn parse(text: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|version| version.to_string() == text)
    }

    /// Where the documents stand that an unfinished task calls so; V1 has none.
    pub fn pending_path(self, content: &str) -> Option<String> {
        match self {
            Version::V1 => None,
            Version::V2 => Some(format!("updates/update_files/update_{content}")),
            Version::V3 | Version::V4 | Version::V5 => Some(format!("updates/updates_files/{content}")),
            Version::V6 => Some(format!("tasks/update_files/{content}.jsonl")),
        }
    }

    pub fn keys_path(self) -> Option<&'static str> {
        match self {
            Version::V1 | Version::V2 | Version::V3 => None,
            Version::V4 | Version::V5 => Some("keys"),
            Version::V6 => Some("keys.jsonl"),
        }
    }

    /// Where the tasks of all indexes stand; in V1 each index has its own.
    pub fn queue_path(self) -> Option<&'static str> {
        match self {
            Version::V1 => None,
            Version::V2 | Version::V3 | Version::V4 | Version::V5 => Some("updates/data.jsonl"),
            Version::V6 => Some("tasks/queue.jsonl"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `metadata.json`: the version, and in V1 the indexes.
    Metadata,
    /// A folder of an index, which therefore has to have its files.
    Index(String),
    Documents(String),
    /// V6: uid and primary key.
    IndexMetadata(String),
    /// V1, V6.
    Settings(String),
    /// V2 to V5: settings and primary key.
    Meta(String),
    /// V1: the updates of one index.
    Updates(String),
    /// V2 to V5: which folder is which index.
    UidMap,
    /// V2 to V6.
    Tasks,
    /// The documents of an unfinished task.
    Pending,
    Keys,
    Features,
    Batches,
    Network,
    ChatSettings,
    Webhooks,
    SearchRules,
    /// Meilisearch's own index.
    Internal,
    /// Only snapshots have it.
    SnapshotVersion,
    Database,
    Ignored,
}

/// Under which name Meilisearch keeps an index for itself.
const INTERNAL: &str = ".meili_dsr";

impl Role {
    /// What a path stands for in a dump of this version; `version` is `None` as long as it is not known.
    pub fn of(path: &str, is_folder: bool, version: Option<Version>) -> Role {
        let role = Role::by_path(path, is_folder);
        match version {
            Some(version) if !role.belongs_to(version, path) => Role::Ignored,
            _ => role,
        }
    }

    fn by_path(path: &str, is_folder: bool) -> Role {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| part.starts_with("._")) {
            return Role::Ignored;
        }
        if parts.starts_with(&["indexes", INTERNAL]) {
            return if is_folder { Role::Ignored } else { Role::Internal };
        }
        let named = |name: &str| name.to_owned();
        if is_folder {
            return match parts[..] {
                ["indexes", folder] => Role::Index(named(folder)),
                _ => Role::Ignored,
            };
        }
        match parts[..] {
            ["metadata.json"] => Role::Metadata,
            ["indexes", folder, "documents.jsonl"] => Role::Documents(named(folder)),
            ["indexes", folder, "metadata.json"] => Role::IndexMetadata(named(folder)),
            ["indexes", folder, "settings.json"] => Role::Settings(named(folder)),
            ["indexes", folder, "meta.json"] => Role::Meta(named(folder)),
            ["index_uuids", "data.jsonl"] => Role::UidMap,
            ["updates", "data.jsonl"] | ["tasks", "queue.jsonl"] => Role::Tasks,
            ["updates", "update_files", name] if name.starts_with("update_") => Role::Pending,
            ["updates", "updates_files", _] => Role::Pending,
            ["tasks", "update_files", name] if name.ends_with(".jsonl") => Role::Pending,
            ["keys"] | ["keys.jsonl"] => Role::Keys,
            ["experimental-features.json"] => Role::Features,
            ["batches", "queue.jsonl"] => Role::Batches,
            ["network.json"] => Role::Network,
            ["webhooks.json"] => Role::Webhooks,
            ["chat-completions-settings", _] => Role::ChatSettings,
            ["dynamic-search-rules", _] => Role::SearchRules,
            [folder, "documents.jsonl"] => Role::Documents(named(folder)),
            [folder, "settings.json"] => Role::Settings(named(folder)),
            [folder, "updates.jsonl"] => Role::Updates(named(folder)),
            ["VERSION"] => Role::SnapshotVersion,
            [.., "data.mdb"] => Role::Database,
            _ => Role::Ignored,
        }
    }

    fn belongs_to(&self, version: Version, path: &str) -> bool {
        use Version::{V1, V2, V3, V4, V5, V6};

        let below_indexes = path.starts_with("indexes/") && path.matches('/').count() == 2;
        match self {
            Role::Metadata | Role::SnapshotVersion | Role::Database | Role::Ignored => true,
            Role::Index(_) => version != V1,
            Role::Documents(_) => below_indexes == (version != V1),
            Role::Settings(_) => matches!(version, V1 | V6) && below_indexes == (version == V6),
            Role::Updates(_) => version == V1,
            Role::Meta(_) | Role::UidMap => matches!(version, V2 | V3 | V4 | V5),
            Role::Tasks => version.queue_path() == Some(path),
            Role::Pending => match version {
                V1 => false,
                V2 => path.starts_with("updates/update_files/"),
                V3 | V4 | V5 => path.starts_with("updates/updates_files/"),
                V6 => path.starts_with("tasks/"),
            },
            Role::Keys => version.keys_path() == Some(path),
            Role::IndexMetadata(_)
            | Role::Features
            | Role::Batches
            | Role::Network
            | Role::ChatSettings
            | Role::Webhooks
            | Role::SearchRules
            | Role::Internal => version == V6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_a_member_is() {
        let folder = || "a".to_owned();
        for (path, version, role) in [
            ("a/documents.jsonl", Version::V1, Role::Documents(folder())),
            ("a/documents.jsonl", Version::V6, Role::Ignored),
            ("indexes/documents.jsonl", Version::V1, Role::Documents("indexes".to_owned())),
            ("indexes/a/documents.jsonl", Version::V4, Role::Documents(folder())),
            ("indexes/a/documents.jsonl", Version::V1, Role::Ignored),
            ("indexes/a/metadata.json", Version::V6, Role::IndexMetadata(folder())),
            ("indexes/.meili_dsr/documents.jsonl", Version::V6, Role::Internal),
            ("updates/update_files/update_a", Version::V2, Role::Pending),
            ("updates/updates_files/a", Version::V5, Role::Pending),
            ("tasks/update_files/a.jsonl", Version::V6, Role::Pending),
            ("tasks/queue.jsonl", Version::V3, Role::Ignored),
            ("keys", Version::V6, Role::Ignored),
            ("indexes/a/._documents.jsonl", Version::V6, Role::Ignored),
            ("somewhere/else.bin", Version::V6, Role::Ignored),
        ] {
            assert_eq!(Role::of(path, false, Some(version)), role, "{path} in {version}");
        }
        assert_eq!(Role::of("indexes/a", true, None), Role::Index(folder()));
        assert_eq!(Version::parse("V4"), Some(Version::V4));
        assert_eq!(Version::parse("V7"), None);
    }
}
