//! Which file systems change only through this system's kernel, by the number that statfs has for them.

use super::Untrusted;

/// File systems of a disk or of memory, of which the kernel knows all changes. Others are refused even if they are not known:
/// there are more that are shared than any list has.
///
/// Numbers are from linux/magic.h; those with an asterisk, which it lacks, from the table in coreutils' stat.c.
const LOCAL: [u32; 18] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs; changes that do not come through the mount are the administrator's
    0x2fc1_2fc1, // ZFS *
    0xca45_1a4e, // bcachefs *
    0xf2f5_2010, // F2FS
    0x3153_464a, // JFS *
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0x9660,      // ISO 9660
    0x1501_3346, // UDF
];

/// What people call those that are often met, of which other hosts, or a program here, know changes that the kernel does not.
/// Sources as above.
const SHARED: [(u32, &str); 25] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"), // CIFS_SUPER_MAGIC
    (0xfe53_4d42, "SMB"), // SMB2_SUPER_MAGIC
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"), // AFS_FS_MAGIC
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x7461_636f, "OCFS2"),
    (0x00c0_ffee, "hostfs"),
    (0x0116_1970, "GFS2"),             // *
    (0x4750_4653, "GPFS"),             // *
    (0x0bd0_0bd0, "Lustre"),           // *
    (0x1983_0326, "BeeGFS"),           // *
    (0xaad7_aaea, "PanFS"),            // *
    (0xbeef_dead, "StorNext"),         // *
    (0x6163_6673, "ACFS"),             // *
    (0xa501_fcf5, "VxFS"),             // *
    (0x786f_4256, "VirtualBox"),       // *
    (0xbacb_acbc, "VMware's HGFS"),    // *
    (0x7c7c_6673, "Parallels' share"), // *
    (0x5346_4846, "WSL's DrvFs"),      // *
];

/// Refuses a file system whose changes may come from elsewhere.
pub(super) fn check(number: u32) -> Result<(), Untrusted> {
    if LOCAL.contains(&number) {
        return Ok(());
    }
    let known = SHARED.iter().find(|(shared, _)| *shared == number);
    Err(Untrusted::SharedFileSystem(match known {
        Some((_, name)) => (*name).to_owned(),
        None => format!("a file system of the unknown type {number:#x}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ones_are_trusted_and_shared_ones_are_named() {
        assert_eq!(check(0xef53), Ok(()));
        assert_eq!(check(0x6969), Err(Untrusted::SharedFileSystem("NFS".into())));
        assert_eq!(check(0x6573_5546).unwrap_err().to_string(), "FUSE may be changed without this system's knowledge");
        for (number, name) in SHARED {
            assert_eq!(check(number), Err(Untrusted::SharedFileSystem(name.into())), "{number:#x}");
        }
    }

    #[test]
    fn unknown_ones_are_not_trusted() {
        let unknown = "a file system of the unknown type 0x12345678".into();
        assert_eq!(check(0x1234_5678), Err(Untrusted::SharedFileSystem(unknown)));
    }
}
