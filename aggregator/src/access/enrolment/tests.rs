use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use super::*;
use crate::store::Store;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn enrolments(folder: &std::path::Path) -> Enrolments {
    let authority = Arc::new(Authority::open(folder, 0).unwrap());
    Enrolments::new(authority, Registrar::open(&Store::open_embedded(folder).unwrap()).unwrap(), WEEK)
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn renew(enrolments: &Enrolments, old: (&KeyPair, &[u8]), new: &KeyPair) -> Result<Vec<u8>, EnrolmentError> {
    let random = SystemRandom::new();
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &old.0.serialize_der(), &random).unwrap();
    let asked = request(new);
    let signature = signer.sign(&random, &asked).unwrap();
    enrolments.renew(old.1, &asked, (signature.as_ref(), &[])).map(|issued| issued.certificate)
}

fn admit(enrolments: &Enrolments, certificate: &[u8]) -> Result<Admitted, EnrolmentError> {
    enrolments.admit(&CertificateDer::from(certificate), ("LIC01", ""), &Arrival::default())
}

fn first(enrolments: &Enrolments, key: &KeyPair) -> Vec<u8> {
    let wanted = Wanted {
        license_server: "LIC01".into(),
        realm: String::new(),
        valid_for: Duration::from_secs(60),
        uses: 1,
        url: "https://aggregator:7470".into(),
        needs_approval: false,
    };
    let (invitation, _) = enrolments.invite(&wanted).unwrap();
    enrolments.enrol(&invitation.secret, &request(key), ("", "host"), None).unwrap().certificate
}

#[test]
fn a_certificate_is_valid_until_a_later_one_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let enrolments = enrolments(folder.path());
    let keys = [(); 4].map(|()| key());
    let a = first(&enrolments, &keys[0]);
    let b = renew(&enrolments, (&keys[0], &a), &keys[1]).unwrap();
    // The answer was lost.
    assert_eq!(renew(&enrolments, (&keys[0], &a), &keys[1]).unwrap(), b);
    let c = renew(&enrolments, (&keys[1], &b), &keys[2]).unwrap();
    // A connection that was under way shows an earlier one: the later one stays valid.
    for certificate in [&a, &b, &b, &c] {
        assert_eq!(admit(&enrolments, certificate).unwrap().license_server, "LIC01");
    }
    for certificate in [&a, &b] {
        assert_eq!(admit(&enrolments, certificate).unwrap().holder.standing, Standing::Quarantined);
    }
    assert!(matches!(renew(&enrolments, (&keys[1], &b), &keys[3]), Err(EnrolmentError::Superseded(_))));
    // Whoever has the certificate has not the key.
    assert!(matches!(renew(&enrolments, (&keys[0], &c), &keys[3]), Err(EnrolmentError::Unknown)));
    let id = enrolments.list().unwrap().remove(0).id;
    enrolments.revoke(&id[..6]).unwrap();
    assert!(matches!(admit(&enrolments, &c), Err(EnrolmentError::Revoked(_))));
    assert!(matches!(renew(&enrolments, (&keys[2], &c), &keys[3]), Err(EnrolmentError::Revoked(_))));
}

/// A database that was restored from a backup knows less than its agents have got since.
#[test]
fn a_certificate_that_is_newer_than_a_restored_database_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let before = enrolments(folder.path());
    let keys = [(); 5].map(|()| key());
    let a = first(&before, &keys[0]);
    admit(&before, &a).unwrap();
    drop(before);
    let (access, backup) = (folder.path().join("access.db"), folder.path().join("backup"));
    std::fs::copy(&access, &backup).unwrap();
    let between = Enrolments { life: WEEK + Duration::from_secs(9), ..enrolments(folder.path()) };
    let b = renew(&between, (&keys[0], &a), &keys[1]).unwrap();
    admit(&between, &b).unwrap();
    drop(between);
    std::fs::copy(&backup, &access).unwrap();
    let restored = enrolments(folder.path());
    assert!(matches!(admit(&restored, &b), Err(EnrolmentError::Unknown)), "the agent then asks for the next one");
    let c = renew(&restored, (&keys[1], &b), &keys[2]).unwrap();
    admit(&restored, &c).unwrap();
    assert_eq!(admit(&restored, &a).unwrap().holder.standing, Standing::Quarantined);
    // One that is not signed by the authority, or of nobody who is known, is not.
    let other = tempfile::tempdir().unwrap();
    let foreign = first(&enrolments(other.path()), &keys[3]);
    assert!(matches!(renew(&restored, (&keys[3], &foreign), &keys[4]), Err(EnrolmentError::Unknown)));
}

#[test]
fn an_authority_is_made_once_and_never_by_halves() {
    let folder = tempfile::tempdir().unwrap();
    let made = Authority::open(folder.path(), 0).unwrap().sha256();
    assert_eq!(Authority::open(folder.path(), 0).unwrap().sha256(), made);
    std::fs::remove_file(folder.path().join("authority/authority.key")).unwrap();
    assert!(matches!(Authority::open(folder.path(), 0), Err(AuthorityError::Half { .. })));
    let other = tempfile::tempdir().unwrap();
    assert!(matches!(Authority::open(other.path(), 3), Err(AuthorityError::Lost { agents: 3, .. })));
    Authority::open(other.path(), 0).unwrap();
    std::fs::copy(other.path().join("authority/authority.key"), folder.path().join("authority/authority.key")).unwrap();
    assert!(matches!(Authority::open(folder.path(), 0), Err(AuthorityError::Unusable { .. })), "another one's key");
}

/// Whoever has an outdated certificate disturbs nobody, and cannot fill the database.
#[test]
fn copies_in_quarantine_are_bounded_and_end_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let enrolments = enrolments(folder.path());
    let keys = [key(), key()];
    let a = first(&enrolments, &keys[0]);
    let b = renew(&enrolments, (&keys[0], &a), &keys[1]).unwrap();
    let own = admit(&enrolments, &b).unwrap();
    for _ in 0..UNDECIDED {
        assert_eq!(admit(&enrolments, &a).unwrap().holder.standing, Standing::Quarantined);
    }
    assert!(matches!(admit(&enrolments, &a), Err(EnrolmentError::TooManyCopies(_))));
    assert!(!own.turn.has_changed().unwrap(), "the agent itself stays");
    let id = enrolments.list().unwrap().remove(0).id;
    enrolments.judge(&id, 2, Standing::Rejected).unwrap();
    admit(&enrolments, &a).unwrap();
}

/// That an agent has got its generation is known after a restart, too: a copy that comes first with the one before is the copy.
#[test]
fn a_copy_that_comes_first_after_a_restart_is_still_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let before = enrolments(folder.path());
    let certificate = first(&before, &key());
    let come = |enrolments: &Enrolments, generation: &[u8]| {
        let arrival = Arrival { generation: generation.to_vec(), ..Arrival::default() };
        enrolments.admit(&CertificateDer::from(&*certificate), ("LIC01", ""), &arrival).unwrap()
    };
    let given = come(&before, &[]).holder.issued;
    let own = come(&before, &given);
    before.has_generation(&own.enrolment, &own.holder).unwrap();
    drop(before);
    let after = enrolments(folder.path());
    let copy = come(&after, &given);
    assert_ne!(copy.holder.number, own.holder.number);
    let again = come(&after, &own.holder.issued);
    assert_eq!((again.holder.number, again.holder.standing), (own.holder.number, Standing::Counted));
    assert_eq!(after.holders().unwrap()[1].1.standing, Standing::Quarantined);
    assert!(matches!(after.judge(&own.enrolment, 7, Standing::Accepted), Err(EnrolmentError::NoCopy(_))));
    after.revoke(&own.enrolment).unwrap();
    assert!(matches!(after.judge(&own.enrolment, 0, Standing::Accepted), Err(EnrolmentError::Revoked(_))));
}
