//! Which variants of which enums stand in some values. A value is serialized to nowhere, and whatever it passes by is
//! noted, however deep it lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use miroir_store::config::{Cutover, Form};
use miroir_store::coordinator::records::Record;
use miroir_store::migration::{Reason, Stage};
use miroir_store::wire::{
    Answer, Command, Message, NodeQuestion, NodeReply, Op, Purpose, Reply, Selection, StagingAction, StagingReply,
};
use serde::Serialize;
use serde::ser::{self, Impossible};

/// Every enum that is written, with its variants in the order in which they are numbered.
///
/// A variant that is added does not compile here until it is listed, and once it is listed, the golden files have to
/// have one.
macro_rules! every_variant {
    ($($enum:ident { $($variant:ident)+ })+) => {
        pub const EVERY_VARIANT: &[(&str, &[&str])] = &[$((stringify!($enum), &[$(stringify!($variant)),+])),+];
        $(const _: fn(&$enum) = |it| match it { $($enum::$variant { .. } => {}),+ };)+
    };
}

every_variant! {
    Message {
        Batch Answers Stale Behind Unable GetConfigs Configs
        Ping Pong Install Installed Fetch Digest Digests List Listing Ship Repair Repaired Unserved Drop Dropped
        Tombstones TombstoneList Command Reply Split Sums Scan Scanned Forget Forgot Stage Staged Rehearse AskNode
        NodeReply Promise Promised
    }
    Op { Counter Read Write }
    Answer { Counter Read Written BelowBarrier TooLong }
    Purpose { Copy Delta AntiEntropy Readmission }
    Selection { Page Keys }
    StagingAction { Append Seal Manifest Read Drop }
    StagingReply { Done Manifest Bytes Refused }
    Command {
        Plan Start Pause Resume Abort Reverse Rebalance AddNode SetAntiEntropy Status Inspect RemoveNode CompareNow
        GiveUp
    }
    Reply { Done Planned Refused Status Inspected Comparing }
    NodeQuestion { Stats Scrub Room }
    NodeReply { Stats Scrubbed Room }
    Form { Stable DualWrite Joint }
    Cutover { Delta Skipped }
    Stage { Planned DualWrite Drain DeltaPass Activate Cleanup Done Aborted }
    Reason { CopyTimeout DrainTimeout JointTimeout UnsafeCutover Operator }
    Record { Cluster Shard Migration Commands }
}

/// By enum, the variants in the order in which they are numbered.
pub type Variants = BTreeMap<&'static str, Vec<&'static str>>;

pub fn every_variant() -> Variants {
    EVERY_VARIANT.iter().map(|(name, variants)| (*name, variants.to_vec())).collect()
}

/// A struct or an enum, its variant, its field.
pub type Place = (&'static str, &'static str, &'static str);

#[derive(Debug, Default)]
pub struct Seen {
    variants: BTreeMap<&'static str, BTreeMap<u32, &'static str>>,
    /// Where an option was `None` or a list empty, and where one was not.
    empty: BTreeSet<Place>,
    filled: BTreeSet<Place>,
    place: Place,
}

impl Seen {
    /// Notes what stands in a value.
    pub fn visit(&mut self, value: &impl Serialize) {
        value.serialize(self).expect("only what is derived for structs, enums, tuples, lists and maps is written");
    }

    pub fn variants(&self) -> Variants {
        self.variants.iter().map(|(name, variants)| (*name, variants.values().copied().collect())).collect()
    }

    /// Options and lists in which nothing ever was: nobody knows which enums are behind them.
    pub fn never_filled(&self) -> Vec<Place> {
        self.empty.difference(&self.filled).copied().collect()
    }

    fn variant(&mut self, name: &'static str, index: u32, variant: &'static str) {
        self.variants.entry(name).or_default().insert(index, variant);
        self.place = (name, variant, "");
    }

    fn note(&mut self, is_filled: bool) {
        let places = if is_filled { &mut self.filled } else { &mut self.empty };
        places.insert(self.place);
    }
}

/// The fields of a struct, or of a variant like one.
pub struct Fields<'a> {
    seen: &'a mut Seen,
    name: &'static str,
    variant: &'static str,
}

macro_rules! plain {
    ($($method:ident($type:ty))+) => {
        $(fn $method(self, _: $type) -> Result<(), fmt::Error> { Ok(()) })+
    };
}

impl<'a> ser::Serializer for &'a mut Seen {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), fmt::Error>;
    type SerializeTupleVariant = Impossible<(), fmt::Error>;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    plain! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_unit_struct(&'static str)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.note(false);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        self.note(true);
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<(), fmt::Error> {
        self.variant(name, index, variant);
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        self.variant(name, index, variant);
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, fmt::Error> {
        self.note(len != Some(0));
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, fmt::Error> {
        self.note(len != Some(0));
        Ok(self)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'a>, fmt::Error> {
        Ok(Fields { seen: self, name, variant: "" })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, fmt::Error> {
        self.variant(name, index, variant);
        Ok(Fields { seen: self, name, variant })
    }
}

impl Fields<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Result<(), fmt::Error> {
        self.seen.place = (self.name, self.variant, field);
        value.serialize(&mut *self.seen)
    }
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Result<(), fmt::Error> {
        self.field(field, value)
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Fields<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Result<(), fmt::Error> {
        self.field(field, value)
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}

impl ser::SerializeSeq for &mut Seen {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}

impl ser::SerializeTuple for &mut Seen {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}

impl ser::SerializeMap for &mut Seen {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}
