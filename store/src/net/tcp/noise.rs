//! The Noise pattern of sealed connections, over the cryptography of `snow` and the random numbers of the sockets.

use std::sync::Arc;

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error};

use super::sockets::Sockets;
use crate::net::key::SharedKey;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";

pub(super) fn noise<'a>(key: &'a SharedKey, sockets: &Arc<dyn Sockets>, prologue: &'a [u8]) -> Builder<'a> {
    let pattern = PATTERN.parse().expect("the pattern is one that the library has");
    let builder = Builder::with_resolver(pattern, Box::new(Resolver(sockets.clone())));
    let builder = builder.psk(0, &key.0).expect("one key, in a place that the pattern has");
    builder.prologue(prologue).expect("one prologue")
}

struct Resolver(Arc<dyn Sockets>);

struct Rng(Arc<dyn Sockets>);

impl Random for Rng {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.0.random(out).map_err(|_| Error::Rng)
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Rng(self.0.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}
