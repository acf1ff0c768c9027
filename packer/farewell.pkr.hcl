# Builds an image with farewell: boots a base, installs farewell with install.sh, which checks the configuration, and
# seals the image, so that it contains nothing specific to the build machine.
#
#   packer build -var base=debian.qcow2 -var binary=farewell -var config=farewell.toml packer/
#
# Works with Packer 1.6 (Debian 12) and later; from 1.10 on run `packer init packer/plugins` first. README.md has the
# rest ("Put it into an image"). amazon/farewell.pkr.hcl does the same on AWS.

variable "binary" {
  type        = string
  description = "The farewell binary that goes into the image."

  validation {
    condition     = length(trimspace(var.binary)) > 0
    error_message = "The variable binary must name the farewell binary, as in -var binary=target/dist/farewell."
  }
}

variable "config" {
  type        = string
  default     = ""
  description = "The configuration, which becomes /etc/farewell/farewell.toml; without one the sample, whose sequence is empty."

  validation {
    condition     = var.config == "" || trimsuffix(var.config, ".toml") != var.config
    error_message = "The variable config must name a TOML file, as in -var config=farewell.toml."
  }
}

variable "conf_dir" {
  type        = string
  default     = ""
  description = "A folder of drop-ins, whose *.toml go to /etc/farewell/conf.d."
}

variable "output" {
  type        = string
  default     = "farewell-image"
  description = "The folder that the image of the qemu builder goes to, which must not exist yet. The manifest lies beside it, with -manifest.json at its end."

  validation {
    condition     = var.output != "" && trimsuffix(var.output, "/") == var.output
    error_message = "The variable output must name a folder, without a slash at its end."
  }
}

variable "tree" {
  type        = string
  default     = ""
  description = "The checkout or release of farewell that install.sh and what it installs are taken from; by default the one that this template lies in."
}

variable "base" {
  type        = string
  default     = "the-variable-base-is-missing"
  description = "The bootable disk image to begin with: a path or an address, in any format that qemu-img reads."

  validation {
    condition     = length(trimspace(var.base)) > 0
    error_message = "The variable base must name a bootable disk image, as in -var base=debian-12-genericcloud-amd64.qcow2."
  }
}

variable "base_checksum" {
  type        = string
  default     = "none"
  description = "What base must be: \"sha256:…\" or \"sha512:…\", or \"file:\" and the path or https address of a list of checksums. \"none\", the default, is for a base that is a file of this machine."
}

variable "accelerator" {
  type        = string
  default     = "kvm"
  description = "How QEMU runs the build machine: \"kvm\", \"hvf\" (macOS), or \"tcg\", which is slow and works everywhere."

  validation {
    condition     = contains(["kvm", "tcg", "hvf", "whpx", "xen"], var.accelerator)
    error_message = "The variable accelerator must be one of kvm, tcg, hvf, whpx and xen."
  }
}

variable "ssh_username" {
  type        = string
  default     = "root"
  description = "Who logs in to the machine that base becomes: root, or someone whom sudo asks for no password."

  validation {
    condition     = var.ssh_username != "" && regex_replace(var.ssh_username, "^[a-z_][a-z0-9_.-]*$", "") == ""
    error_message = "The variable ssh_username must be the name of a user, as \"root\" or \"debian\"."
  }
}

variable "ssh_password" {
  type        = string
  default     = ""
  sensitive   = true
  description = "The password that base knows the user by."
}

variable "ssh_private_key_file" {
  type        = string
  default     = ""
  description = "The private key that base, or seed, knows the user by."
}

variable "seed" {
  type        = string
  default     = ""
  description = "A folder with user-data and meta-data of cloud-init (NoCloud), for a cloud image as base that nobody can log in to without. Let it bring a key and no password: the key is taken out of the image again. Needs xorriso, mkisofs or hdiutil."
}

locals {
  tree = var.tree == "" ? "${path.root}/.." : var.tree

  # Where it lies on the build machine.
  there = "/tmp/farewell-image"

  # Goes before a command that needs root.
  as_root = "$([ \"$(id -u)\" = 0 ] || echo 'sudo -n')"

  run_as_root = "${local.as_root} env {{ .Vars }} sh '{{ .Path }}'"

  # Paths that end with the name that they have there, also where they are given as "." or with a slash at the end.
  config   = var.config == "" ? "" : abspath(var.config)
  conf_dir = var.conf_dir == "" ? "" : abspath(var.conf_dir)

  # What packer/packages/release makes beside the binary.
  licenses = [for name in fileset(dirname(abspath(var.binary)), "third-party-licenses.txt") : "${dirname(abspath(var.binary))}/${name}"]

  cd_files = var.seed == "" ? [] : ["${var.seed}/user-data", "${var.seed}/meta-data"]

  # Whoever is between here and there could give another base, where nothing tells what it must be.
  is_local   = regex_replace(var.base, "^([A-Za-z][A-Za-z0-9+.-]*::|[A-Za-z][A-Za-z0-9+.-]*://).*$", "") != "" || regex_replace(var.base, "^file://.*$", "") == ""
  is_proof   = regex_replace(var.base_checksum, "^((sha256:|sha512:)?([0-9A-Fa-f]{64}|[0-9A-Fa-f]{128})|file:(https://|[./]).*)$", "") == ""
  is_missing = ! local.is_local && ! local.is_proof
}

source "qemu" "farewell" {
  iso_url          = var.base
  iso_checksum     = local.is_missing ? "the variable base_checksum must say which base is to come from the network, by its SHA-256" : var.base_checksum
  disk_image       = true
  skip_resize_disk = true
  format           = "qcow2"
  output_directory = var.output
  vm_name          = "farewell.qcow2"

  accelerator    = var.accelerator
  cpus           = 2
  memory         = 1024
  disk_interface = "virtio"
  disk_discard   = "unmap"
  net_device     = "virtio-net"
  headless       = true
  boot_wait      = "-1s"
  cd_files       = local.cd_files
  cd_label       = "cidata"

  qemuargs = [
    ["-cpu", "max"],
    # Packer's own would let everybody who reaches the host reach the build machine, whose password may be well known.
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
  ]

  ssh_username         = var.ssh_username
  ssh_password         = var.ssh_password
  ssh_private_key_file = var.ssh_private_key_file
  ssh_timeout          = "15m"
  shutdown_command     = "${local.as_root} systemctl poweroff"
}

build {
  sources = ["source.qemu.farewell"]

  # Where the base has farewell already, the build machine is one that has it: it must not leave anything at its end.
  provisioner "shell" {
    inline = [
      "umask 077",
      "mkdir '${local.there}' '${local.there}/given'",
      "${local.as_root} sh -c 'mkdir -p /run/farewell && : >/run/farewell/skip'",
    ]
  }

  provisioner "file" {
    source      = var.binary
    destination = "${local.there}/farewell"
  }

  # A release as it is unpacked, in which install.sh finds everything.
  provisioner "file" {
    sources = concat([
      "${local.tree}/units",
      "${local.tree}/packer",
      "${local.tree}/README.md",
      "${local.tree}/CHANGELOG.md",
      "${local.tree}/LICENSE",
    ], local.licenses)
    destination = "${local.there}/"
  }

  # Beside the license, since a list of nothing is refused.
  provisioner "file" {
    sources     = compact(["${local.tree}/LICENSE", local.config, local.conf_dir])
    destination = "${local.there}/given/"
  }

  # Ends with `farewell check --image`: a configuration that is wrong ends the build.
  provisioner "shell" {
    environment_vars = [
      "CONFIG=${var.config == "" ? "" : basename(local.config)}",
      "CONF_DIR=${var.conf_dir == "" ? "" : basename(local.conf_dir)}",
    ]
    execute_command = local.run_as_root
    inline = [
      "cd '${local.there}'",
      "sh packer/install.sh $${CONFIG:+--config \"given/$CONFIG\"} $${CONF_DIR:+--conf-dir \"given/$CONF_DIR\"}",
    ]
  }

  # The last thing that is done there: after it nobody can log in any more who is not logged in.
  provisioner "shell" {
    environment_vars = ["SEEDED=${var.seed == "" ? "" : var.ssh_username}"]
    execute_command  = local.run_as_root
    inline = [
      # What the seed has let in is let in no more.
      "if [ -n \"$SEEDED\" ]; then rm -f /root/.ssh/authorized_keys \"$(getent passwd \"$SEEDED\" | cut -d: -f6)/.ssh/authorized_keys\"; fi",
      "sh '${local.there}/packer/seal.sh' --build-machine",
      "rm -rf '${local.there}'",
    ]
  }

  post-processor "manifest" {
    output     = "${var.output}-manifest.json"
    strip_path = true
  }
}
