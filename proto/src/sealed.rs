//! Exports of agents that have no network: encrypted for the aggregator, signed by the agent; and the address that stands for it.
//!
//! ```text
//! "seatmeter-sealed-1\n"   the mark
//! 32 bytes                 the encapsulated key (HPKE, RFC 9180: X25519, HKDF-SHA256, ChaCha20Poly1305)
//! u32, ciphertext          a piece, after its length (big endian); the last one has the associated data "last"
//! ...
//! ```
//!
//! The plaintext is a sequence of [`SealedRecord`]s, each after its length. A file that was cut, altered or put together of others
//! does not open.

use std::io::{self, Read, Write};

use data_encoding::BASE64URL_NOPAD;
use hpke::aead::{AeadCtxR, AeadCtxS, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use prost::Message;
use rustls::pki_types::CertificateDer;

use crate::batch::MAX_BATCH;
use crate::tls::sha256;
use crate::v1::{SealedAcknowledgement, SealedAnswer, SealedRecord};

const MARK: &[u8] = b"seatmeter-sealed-1\n";
const INFO: &[u8] = b"seatmeter export 1";
const LAST: &[u8] = b"last";

/// The most bytes of a piece before it is encrypted.
const PIECE: usize = 1 << 20;
/// What encryption adds to a piece.
const TAG: usize = 16;
/// The most bytes of a record: a batch, and some room.
const LONGEST_RECORD: usize = MAX_BATCH + (64 << 10);

/// The most batches of an export, so that its answer can be held in memory.
pub const MOST_BATCHES: u64 = 500_000;

type SealingKem = X25519HkdfSha256;

/// Why an export cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The file cannot be read or written.
    #[error("the file cannot be used: {0}")]
    File(#[from] io::Error),
    /// It is something else.
    #[error("this is no export of `seatmeter-agent export`")]
    NoExport,
    /// It does not open.
    #[error(
        "the export does not open: it was cut or altered on its way, or is for another aggregator (byte {at}); copy it again"
    )]
    Damaged {
        /// Where it ceases to open.
        at: u64,
    },
    /// What is in it makes no sense.
    #[error("the export holds {0}: the agent that made it may be of another version")]
    Content(&'static str),
}

/// The key with which an aggregator opens exports. It is not shown.
pub struct SealingKey(<SealingKem as Kem>::PrivateKey);

impl SealingKey {
    /// Makes a key of 32 random bytes, or of those that it was made of before.
    pub fn of(seed: &[u8; 32]) -> Self {
        Self(SealingKem::derive_keypair(seed).0)
    }

    /// Returns the key with which agents seal.
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(&SealingKem::sk_to_pk(&self.0).to_bytes());
        public
    }
}

/// The beginning of the address of an aggregator that is reached by exports alone.
pub const SCHEME: &str = "sealed:";

/// Where exports go: the key with which they are sealed, and the hash of the authority that signs the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The aggregator's public key.
    pub key: [u8; 32],
    /// The SHA-256 of the authority's certificate.
    pub authority: [u8; 32],
}

impl Address {
    /// Reads an address; `None` if the text is none.
    pub fn read(text: &str) -> Option<Self> {
        let (key, authority) = text.strip_prefix(SCHEME)?.split_once('.')?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok()?.try_into().ok();
        Some(Self { key: decode(key)?, authority: decode(authority)? })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [key, authority] = [&self.key, &self.authority].map(|part| BASE64URL_NOPAD.encode(part));
        write!(formatter, "{SCHEME}{key}.{authority}")
    }
}

/// Writes an export.
pub struct Sealer<W> {
    file: W,
    context: AeadCtxS<ChaCha20Poly1305, HkdfSha256, SealingKem>,
    piece: Vec<u8>,
    /// What is signed: the encapsulated key, and all records.
    signed: ring::digest::Context,
}

impl<W: Write> Sealer<W> {
    /// Begins an export for the aggregator with this key.
    pub fn begin(mut file: W, key: &[u8; 32]) -> Result<Self, SealedError> {
        let wrong = |_| SealedError::Content("a key that is none");
        let public = <SealingKem as Kem>::PublicKey::from_bytes(key).map_err(wrong)?;
        let (encapsulated, context) =
            hpke::setup_sender::<ChaCha20Poly1305, HkdfSha256, SealingKem>(&OpModeS::Base, &public, INFO)
                .map_err(wrong)?;
        let encapsulated = encapsulated.to_bytes();
        file.write_all(MARK)?;
        file.write_all(&encapsulated)?;
        let mut signed = ring::digest::Context::new(&ring::digest::SHA256);
        signed.update(&encapsulated);
        Ok(Self { file, context, piece: Vec::with_capacity(PIECE), signed })
    }

    /// Adds a record.
    pub fn add(&mut self, record: &SealedRecord) -> Result<(), SealedError> {
        let bytes = record.encode_length_delimited_to_vec();
        self.signed.update(&bytes);
        self.put(&bytes)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), SealedError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            // The last piece is not empty, so that its length tells that more is to come.
            if self.piece.len() == PIECE {
                self.seal(b"")?;
            }
        }
        Ok(())
    }

    fn seal(&mut self, associated: &[u8]) -> Result<(), SealedError> {
        let sealed = self.context.seal(&self.piece, associated);
        let sealed = sealed.map_err(|_| SealedError::Content("more than can be sealed"))?;
        self.file.write_all(&(sealed.len() as u32).to_be_bytes())?;
        self.file.write_all(&sealed)?;
        self.piece.clear();
        Ok(())
    }

    /// Ends the export with a signature of all that was added. Returns the file.
    pub fn end<E: From<SealedError>>(mut self, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<W, E> {
        let signature = sign(self.signed.clone().finish().as_ref())?;
        let record = SealedRecord { record: Some(crate::v1::sealed_record::Record::Signature(signature)) };
        self.put(&record.encode_length_delimited_to_vec())?;
        self.seal(LAST)?;
        self.file.flush().map_err(SealedError::from)?;
        Ok(self.file)
    }
}

/// Reads an export.
pub struct Opener<R> {
    file: R,
    context: AeadCtxR<ChaCha20Poly1305, HkdfSha256, SealingKem>,
    /// The pieces that are open, and how much of them was read.
    open: Vec<u8>,
    read: usize,
    at: u64,
    has_ended: bool,
    signed: ring::digest::Context,
}

impl<R: Read> Opener<R> {
    /// Begins to read an export for the aggregator with this key.
    pub fn begin(mut file: R, key: &SealingKey) -> Result<Self, SealedError> {
        let (mut mark, mut encapsulated) = ([0; MARK.len()], [0; 32]);
        if read_all(&mut file, &mut mark)? < mark.len() || mark != MARK {
            return Err(SealedError::NoExport);
        }
        let damaged = SealedError::Damaged { at: MARK.len() as u64 };
        if read_all(&mut file, &mut encapsulated)? < encapsulated.len() {
            return Err(damaged);
        }
        let given = <SealingKem as Kem>::EncappedKey::from_bytes(&encapsulated).map_err(|_| SealedError::NoExport)?;
        let context =
            hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, SealingKem>(&OpModeR::Base, &key.0, &given, INFO);
        let context = context.map_err(|_| damaged)?;
        let mut signed = ring::digest::Context::new(&ring::digest::SHA256);
        signed.update(&encapsulated);
        let at = (MARK.len() + encapsulated.len()) as u64;
        Ok(Self { file, context, open: Vec::new(), read: 0, at, has_ended: false, signed })
    }

    /// Returns the next record, and the hash that a signature would be of that stands there; `None` at the end.
    pub fn next_record(&mut self) -> Result<Option<(SealedRecord, [u8; 32])>, SealedError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.signed.clone().finish().as_ref());
        loop {
            if let Some(length) = self.whole_record()? {
                let bytes = &self.open[self.read..self.read + length];
                self.signed.update(bytes);
                let record = SealedRecord::decode_length_delimited(bytes);
                self.read += length;
                return record.map(|record| Some((record, hash))).map_err(|_| SealedError::Content("no record"));
            }
            if self.has_ended {
                return if self.read == self.open.len() {
                    Ok(None)
                } else {
                    Err(SealedError::Content("half a record"))
                };
            }
            self.read_piece()?;
        }
    }

    /// Returns the length of the record that comes next, with that of its length; `None` if it is not all there.
    fn whole_record(&self) -> Result<Option<usize>, SealedError> {
        let open = &self.open[self.read..];
        let mut rest = open;
        let Ok(length) = prost::decode_length_delimiter(&mut rest) else {
            // Ten bytes hold every length.
            return if open.len() < 10 { Ok(None) } else { Err(SealedError::Content("no record")) };
        };
        if length > LONGEST_RECORD {
            return Err(SealedError::Content("a record that is too long"));
        }
        let whole = open.len() - rest.len() + length;
        Ok((open.len() >= whole).then_some(whole))
    }

    fn read_piece(&mut self) -> Result<(), SealedError> {
        let damaged = SealedError::Damaged { at: self.at };
        let mut length = [0; 4];
        if read_all(&mut self.file, &mut length)? < length.len() {
            return Err(damaged);
        }
        let length = u32::from_be_bytes(length) as usize;
        if !(TAG..=PIECE + TAG).contains(&length) {
            return Err(damaged);
        }
        let mut sealed = vec![0; length];
        if read_all(&mut self.file, &mut sealed)? < length {
            return Err(damaged);
        }
        // A piece that is not the last one is full.
        self.has_ended = length < PIECE + TAG;
        let associated = if self.has_ended { LAST } else { b"" };
        let opened = self.context.open(&sealed, associated).map_err(|_| damaged)?;
        self.open.drain(..self.read);
        self.read = 0;
        self.open.extend_from_slice(&opened);
        self.at += 4 + length as u64;
        if self.has_ended && self.file.read(&mut [0])? > 0 {
            return Err(SealedError::Damaged { at: self.at });
        }
        Ok(())
    }
}

/// Fills a buffer as far as a file goes. Returns how far.
fn read_all(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Why an answer to an export is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is something else.
    #[error("this is no answer of `seatmeter import`")]
    NoAnswer,
    /// Somebody else has made it.
    #[error("the answer was altered on its way, or was made by another aggregator than the agent was enrolled with")]
    Foreign,
}

/// Opens an answer to an export, signed by the authority of this hash.
pub fn open_answer(bytes: &[u8], authority: &[u8; 32]) -> Result<SealedAcknowledgement, AnswerError> {
    let answer = SealedAnswer::decode(bytes).map_err(|_| AnswerError::NoAnswer)?;
    let certificate = CertificateDer::from(&answer.authority[..]);
    if sha256(&certificate) != *authority {
        return Err(AnswerError::Foreign);
    }
    let certificate = webpki::EndEntityCert::try_from(&certificate).map_err(|_| AnswerError::NoAnswer)?;
    certificate
        .verify_signature(webpki::ring::ECDSA_P256_SHA256, &answer.acknowledgement, &answer.signature)
        .map_err(|_| AnswerError::Foreign)?;
    SealedAcknowledgement::decode(&answer.acknowledgement[..]).map_err(|_| AnswerError::NoAnswer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v1::sealed_record::Record;

    fn sealed(contents: &[Vec<u8>], key: &SealingKey) -> Vec<u8> {
        let mut sealer = Sealer::begin(Vec::new(), &key.public()).unwrap();
        for content in contents {
            sealer.add(&SealedRecord { record: Some(Record::Signature(content.clone())) }).unwrap();
        }
        sealer.end(|hash| Ok::<_, SealedError>(hash.to_vec())).unwrap()
    }

    /// Returns what an export holds, and whether the signature at its end is of all before it.
    fn opened(file: &[u8], key: &SealingKey) -> Result<(Vec<Vec<u8>>, bool), SealedError> {
        let mut opener = Opener::begin(file, key)?;
        let (mut contents, mut is_signed) = (Vec::new(), false);
        while let Some((record, hash)) = opener.next_record()? {
            let Some(Record::Signature(content)) = record.record else { return Err(SealedError::Content("other")) };
            is_signed = content == hash;
            contents.push(content);
        }
        contents.pop();
        Ok((contents, is_signed))
    }

    #[test]
    fn an_export_of_several_pieces_comes_out_as_it_went_in() {
        let key = SealingKey::of(&[7; 32]);
        for size in [0, 1, PIECE - 8, PIECE - 4, PIECE, 3 * PIECE + 5] {
            let contents = vec![vec![5; size], vec![6; 100]];
            let file = sealed(&contents, &key);
            assert_eq!(opened(&file, &key).unwrap(), (contents, true), "{size}");
            assert!(matches!(opened(&file, &SealingKey::of(&[8; 32])), Err(SealedError::Damaged { .. })));
        }
        assert!(matches!(opened(b"something else", &key), Err(SealedError::NoExport)));
    }

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let address = Address { key: [1; 32], authority: [255; 32] };
        assert_eq!(Address::read(&address.to_string()), Some(address));
        for text in ["", "sealed:", "sealed:.", "https://aggregator:7470", "sealed:AAAA.AAAA"] {
            assert_eq!(Address::read(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_export_opens_whole_or_not_at_all(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            at: prop::sample::Index,
            bit in 0_u8..8,
        ) {
            let key = SealingKey::of(&[7; 32]);
            let file = sealed(&contents, &key);
            prop_assert_eq!(opened(&file, &key).unwrap(), (contents, true));
            let at = at.index(file.len());
            prop_assert!(opened(&file[..at], &key).is_err());
            let mut altered = file.clone();
            altered[at] ^= 1 << bit;
            prop_assert!(opened(&altered, &key).is_err());
            let mut longer = file;
            longer.push(0);
            prop_assert!(opened(&longer, &key).is_err());
        }
    }
}
