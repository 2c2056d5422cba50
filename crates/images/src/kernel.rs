//! Gets the ELF `vmlinux` out of the `bzImage` that distributions ship.
//!
//! Firecracker before 1.17 loads ELF only, and QEMU starts an ELF kernel through its PVH entry, without firmware.
//! Layout of a `bzImage` (`Documentation/arch/x86/boot.rst` of the kernel):
//!
//! ```text
//! 0          0x1f1         0x202   0x248              (setup_sects + 1) * 512
//! | boot sector | setup_sects | "HdrS" | payload offset, length |   …   | protected-mode code [ payload ] |
//! ```

use std::io;

use crate::compression::Compression;
use crate::elf::{self, Elf};

/// A distribution's kernel with debugging information stripped has some 60 MiB.
const VMLINUX_LIMIT_BYTES: usize = 256 << 20;

/// `XEN_ELFNOTE_PHYS32_ENTRY`: where a PVH boot enters the kernel.
const XEN_NOTE_PHYS32_ENTRY: u32 = 0x12;

/// The first version of the boot protocol that tells where the payload is.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;

/// A kernel image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Neither ELF nor `bzImage`.
    #[error("not a Linux kernel: neither an ELF file nor a bzImage")]
    NotKernel,
    /// The image ends before what its header promises.
    #[error("kernel image is truncated or its header is damaged")]
    Truncated,
    /// The image is from before Linux 2.6.26.
    #[error("boot protocol {}.{:02} does not tell where the kernel is", version >> 8, version & 0xff)]
    OldProtocol {
        /// Version of the boot protocol, major in the upper byte.
        version: u16,
    },
    /// The payload is in a format that this program does not read.
    #[error("unknown compression of the kernel: it starts with {start:02x?}")]
    UnknownCompression {
        /// The payload's first bytes.
        start: Vec<u8>,
    },
    /// The payload cannot be decompressed.
    #[error("cannot decompress the kernel's {compression} payload")]
    Decompress {
        /// Its format.
        compression: Compression,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel is for another kind of machine.
    #[error("kernel is not built for x86-64")]
    WrongMachine,
    /// The kernel was built without `CONFIG_PVH`.
    #[error("kernel has no PVH entry point")]
    NoPvhEntry,
}

impl KernelError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotKernel => "give a vmlinux or a bzImage, such as /boot/vmlinuz-*",
            Self::Truncated => "fetch the kernel again",
            Self::OldProtocol { .. } => "use a kernel of this decade",
            Self::UnknownCompression { .. } | Self::Decompress { .. } => {
                "use a kernel compressed with gzip, xz, zstd or lz4, or an uncompressed vmlinux"
            }
            Self::WrongMachine => "use an x86-64 kernel",
            Self::NoPvhEntry => "use a kernel built with CONFIG_PVH=y, as Debian's cloud kernels are",
        };
        Some(hint.to_owned())
    }
}

/// Returns the ELF `vmlinux` in `image`, which is one or is a `bzImage`.
///
/// The result is checked to be one that QEMU and Firecracker can start.
pub fn extract_vmlinux(image: &[u8]) -> Result<Vec<u8>, KernelError> {
    extract_within(image, VMLINUX_LIMIT_BYTES)
}

/// The same of a `vmlinux` of at most so many bytes, where it is compressed.
pub(crate) fn extract_within(image: &[u8], limit: usize) -> Result<Vec<u8>, KernelError> {
    if image.starts_with(elf::MAGIC) {
        check_vmlinux(image)?;
        return Ok(image.to_vec());
    }
    let payload = find_payload(image)?;
    let vmlinux = if payload.starts_with(elf::MAGIC) {
        payload.to_vec()
    } else {
        let compression = Compression::detect(payload).ok_or_else(|| KernelError::UnknownCompression {
            start: payload.iter().copied().take(6).collect(),
        })?;
        compression
            .decompress(payload, limit)
            .map_err(|source| KernelError::Decompress { compression, source })?
    };
    check_vmlinux(&vmlinux)?;
    Ok(vmlinux)
}

fn find_payload(image: &[u8]) -> Result<&[u8], KernelError> {
    if elf::slice(image, 0x202, 4) != Some(b"HdrS") {
        return Err(KernelError::NotKernel);
    }
    let version = elf::u16_at(image, 0x206).ok_or(KernelError::Truncated)?;
    if version < PROTOCOL_WITH_PAYLOAD {
        return Err(KernelError::OldProtocol { version });
    }
    let locate = || {
        // Zero means four, for the sake of kernels older than the field.
        let setup_sectors = match *image.get(0x1f1)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let offset = (setup_sectors + 1) * 512 + u64::from(elf::u32_at(image, 0x248)?);
        elf::slice(image, offset, u64::from(elf::u32_at(image, 0x24c)?))
    };
    locate().ok_or(KernelError::Truncated)
}

fn check_vmlinux(vmlinux: &[u8]) -> Result<(), KernelError> {
    let elf = Elf::parse(vmlinux).ok_or(KernelError::WrongMachine)?;
    if elf.machine() != Some(elf::MACHINE_X86_64) {
        return Err(KernelError::WrongMachine);
    }
    if elf.has_note(b"Xen\0", XEN_NOTE_PHYS32_ENTRY) { Ok(()) } else { Err(KernelError::NoPvhEntry) }
}

#[cfg(test)]
pub(crate) mod synthetic {
    //! Small kernels for tests.

    use super::{XEN_NOTE_PHYS32_ENTRY, elf};

    /// An ELF file that passes for a kernel.
    pub(crate) fn vmlinux() -> Vec<u8> {
        let mut file = elf::synthetic::elf(elf::MACHINE_X86_64, Some((b"Xen\0", XEN_NOTE_PHYS32_ENTRY)), b"");
        file.extend((0..=255).flat_map(|byte| [byte; 20]));
        file
    }

    /// Wraps a payload as the kernel's build does.
    pub(crate) fn bz_image(payload: &[u8]) -> Vec<u8> {
        const SETUP_SECTORS: u8 = 3;
        const OFFSET_IN_CODE: usize = 0x2c0;
        let mut image = vec![0; (usize::from(SETUP_SECTORS) + 1) * 512 + OFFSET_IN_CODE];
        image[0x1f1] = SETUP_SECTORS;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&u32::try_from(OFFSET_IN_CODE).expect("small").to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).expect("small").to_le_bytes());
        image.extend(payload);
        image.extend([0; 64]);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::synthetic::{bz_image, vmlinux};
    use super::*;
    use crate::compression;

    #[test]
    fn an_elf_kernel_is_returned_as_it_is() {
        assert_eq!(extract_vmlinux(&vmlinux()).expect("kernel"), vmlinux());
    }

    #[test]
    fn every_compression_of_the_kernels_build_is_unpacked() {
        for compression in compression::ALL {
            let image = bz_image(&compression::synthetic::compress(compression, &vmlinux()));
            assert!(extract_vmlinux(&image).expect("kernel") == vmlinux(), "{compression}");
        }
        assert_eq!(extract_vmlinux(&bz_image(&vmlinux())).expect("uncompressed"), vmlinux());
    }

    #[test]
    fn kernels_that_cannot_be_started_are_refused_with_the_reason() {
        let no_pvh = elf::synthetic::elf(elf::MACHINE_X86_64, Some((b"Xen\0", 1)), b"");
        assert!(matches!(extract_vmlinux(&no_pvh), Err(KernelError::NoPvhEntry)));
        let aarch64 = elf::synthetic::elf(183, Some((b"Xen\0", XEN_NOTE_PHYS32_ENTRY)), b"");
        assert!(matches!(extract_vmlinux(&aarch64), Err(KernelError::WrongMachine)));
        assert!(matches!(extract_vmlinux(b""), Err(KernelError::NotKernel)));
        assert!(matches!(extract_vmlinux(&[0; 4096]), Err(KernelError::NotKernel)));
        let unknown = bz_image(b"BZh91AY&SY");
        assert!(matches!(extract_vmlinux(&unknown), Err(KernelError::UnknownCompression { .. })));
    }

    #[test]
    fn an_old_boot_protocol_is_refused() {
        let mut image = bz_image(&vmlinux());
        image[0x206..0x208].copy_from_slice(&0x0207_u16.to_le_bytes());
        assert_eq!(
            extract_vmlinux(&image).expect_err("old").to_string(),
            "boot protocol 2.07 does not tell where the kernel is"
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_input_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            let _outcome = extract_vmlinux(&bytes);
        }

        #[test]
        fn damaged_images_never_panic(position in 0_usize..9000, byte: u8, keep in 0_usize..9000) {
            for compression in compression::ALL {
                let mut image = bz_image(&compression::synthetic::compress(compression, &vmlinux()));
                let position = position % image.len();
                image[position] = byte;
                image.truncate(keep);
                let _outcome = extract_vmlinux(&image);
            }
        }

        #[test]
        fn damaged_headers_never_panic(header in proptest::collection::vec(proptest::num::u8::ANY, 0x60)) {
            let mut image = bz_image(&vmlinux());
            image[0x1f1] = header[0];
            image[0x206..0x206 + 0x5a].copy_from_slice(&header[..0x5a]);
            let _outcome = extract_vmlinux(&image);
        }
    }
}
