# The plugin that ../farewell.pkr.hcl needs where Packer has none of its own (1.10 and later); once on a machine:
#
#   packer init packer/plugins
#
# In a folder of its own, since `packer build packer/` reads every file of its folder, and Packer 1.6 (Debian 12) refuses
# this block. What is installed is found without it.

packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.10"
    }
  }
}
