#pragma once

#include <string>

namespace atelier::train {

/// What a launcher's environment says of the processes of a run: torchrun (RANK, WORLD_SIZE), Open MPI's mpirun
/// (OMPI_COMM_WORLD_RANK), that of MPICH and Intel MPI (PMI_RANK), or srun (SLURM_PROCID within a step).
struct Launch {
  int rank = 0, size = 1;
  int local_rank = 0;        ///< among those of this machine: which GPU is this one's
  bool one_machine = false;  ///< the launcher says that all are on this one
  std::string address = {};  ///< of the machine of rank 0, where the launcher tells; else ""
  std::string key = {};      ///< the same in all processes of a run; of letters, digits, - and _
};

/// One process of its own where no launcher is about. Error(usage): numbers that make no sense.
Launch launch_from_environment();

}  // namespace atelier::train
