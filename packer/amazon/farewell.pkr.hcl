# Builds an AMI with farewell, in the same way as ../farewell.pkr.hcl builds a QEMU disk.
#
#   packer init packer/amazon
#   packer build -var binary=farewell -var config=farewell.toml packer/amazon
#
# In a directory of its own, since Packer before 1.7 (Debian 12 has 1.6) cannot require version 2 of the instance
# metadata service, which protects the machine's credentials against server-side request forgery.

packer {
  required_version = ">= 1.7.0"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.0"
    }
  }
}

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
  description = "The beginning of the name of the manifest, which ends with -manifest.json."

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

variable "region" {
  type        = string
  default     = "eu-central-1"
  description = "The region of AWS that the image is built in and belongs to."

  validation {
    condition     = var.region != "" && regex_replace(var.region, "^[a-z]{2}(-[a-z]+)+-[0-9]+$", "") == ""
    error_message = "The variable region must be a region of AWS, as \"eu-central-1\"."
  }
}

variable "source_ami_name" {
  type        = string
  default     = "debian-12-amd64-*"
  description = "The name of the image to begin with, with * for what differs; the newest one is taken."
}

variable "source_ami_owner" {
  type        = string
  default     = "136693071363"
  description = "Whose image that is: an account of AWS (Debian's by default), \"self\", \"amazon\" or \"aws-marketplace\"."

  validation {
    condition     = var.source_ami_owner != "" && regex_replace(var.source_ami_owner, "^([0-9]{12}|self|amazon|aws-marketplace)$", "") == ""
    error_message = "The variable source_ami_owner must be an account of 12 digits, self, amazon or aws-marketplace."
  }
}

variable "source_ami_username" {
  type        = string
  default     = "admin"
  description = "Who logs in to it: the user that its maker gives the key of an instance to."
}

variable "instance_type" {
  type        = string
  default     = "t3.small"
  description = "The type of the build machine."
}

variable "ami_name" {
  type        = string
  default     = "farewell-{{timestamp}}"
  description = "The name of the image that is built."

  validation {
    condition     = length(var.ami_name) >= 3 && length(var.ami_name) <= 128
    error_message = "The variable ami_name must have 3 to 128 characters, which is AWS's rule."
  }
}

variable "ssh_from" {
  type        = list(string)
  default     = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  description = "The addresses that may reach the build machine's port 22. By default private ones: from outside of its network say your own, as '[\"203.0.113.7/32\"]'."

  validation {
    condition     = length(var.ssh_from) > 0
    error_message = "The variable ssh_from must have an address at least: without any, Packer lets everybody in."
  }
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "The subnet of the build machine; by default one of the default VPC."
}

variable "instance_profile" {
  type        = string
  default     = ""
  description = "The IAM instance profile of the build machine; farewell itself needs none."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "The key that the image's volume is encrypted with; by default the account's own for EBS, with which an image cannot be shared."
}

locals {
  tree = var.tree == "" ? "${path.root}/../.." : var.tree

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
}

source "amazon-ebs" "farewell" {
  region               = var.region
  instance_type        = var.instance_type
  subnet_id            = var.subnet_id
  iam_instance_profile = var.instance_profile
  ami_name             = var.ami_name

  encrypt_boot = true
  kms_key_id   = var.kms_key_id

  # Of the build machine, and of each machine of the image.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  source_ami_filter {
    filters = {
      name                = var.source_ami_name
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = [var.source_ami_owner]
    most_recent = true
  }

  ssh_username                          = var.source_ami_username
  ssh_clear_authorized_keys             = true
  temporary_security_group_source_cidrs = var.ssh_from
}

build {
  sources = ["source.amazon-ebs.farewell"]

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
    execute_command = local.run_as_root
    inline = [
      "sh '${local.there}/packer/seal.sh' --build-machine",
      "rm -rf '${local.there}'",
    ]
  }

  post-processor "manifest" {
    output     = "${var.output}-manifest.json"
    strip_path = true
  }
}
