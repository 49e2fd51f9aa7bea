"""How much is measured: the whole, a taste of it, or as little as shows that it runs.

Imports: standard library only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes and counts.

    Attributes:
        leaves: Sizes of the trees.
        tree_rounds: Samples of each operation on a tree.
        sample_seconds: How long such a sample takes.
        trace_blocks: Sizes of the GPT that is traced and declared.
        trace_rounds: Samples of each trace.
        program_blocks: Size of the GPT whose optimized programs are compared.
        repeated_blocks: Size of the GPT that is declared over and over.
        repeated_declares: How often.
        planned_blocks: Size of the wide GPT that is planned.
        planning_rounds: Processes for each layout.
        matrix_operation: The one operation that the matrix is run for, or None for all.
        gradients: Models whose gradients are compared, of `gradients.MODELS`.
        gradients_small: Whether they are as small as can be.
        gradient_rounds: Samples of tracing, lowering and compiling each.
        step_rounds: Samples of calling each.
        init_blocks: Sizes of the GPT that everyone initializes.
        init_rounds: Processes for each of them.
        growth_blocks: Sizes that only jscope initializes, the smallest and the largest.
        growth_rounds: Processes for each of them.
        start_rounds: Processes for each command that is started.
        saved_arrays: How many arrays, and of how many bytes each, are saved and restored.
        saving_rounds: Samples of each save and each restore.
        listed_variables: Variables of the checkpoint whose names are listed.
        large_checkpoint: Bytes of the checkpoint from which one variable is read.
        sharded_checkpoint: Bytes of the checkpoint that is restored over several devices.
        tensors: Tensors of the checkpoint that is read and written.
        tensor: The shape of each.
        checkpoint_rounds: Samples of each way to do it.
        listed_rounds: Processes for each library.
    """

    leaves: tuple[int, ...]
    tree_rounds: int
    sample_seconds: float
    trace_blocks: tuple[int, ...]
    trace_rounds: int
    program_blocks: int
    repeated_blocks: int
    repeated_declares: int
    planned_blocks: int
    planning_rounds: int
    matrix_operation: str | None
    gradients: tuple[str, ...]
    gradients_small: bool
    gradient_rounds: int
    step_rounds: int
    init_blocks: tuple[int, ...]
    init_rounds: int
    growth_blocks: tuple[int, int]
    growth_rounds: int
    start_rounds: int
    saved_arrays: tuple[tuple[int, int], ...]
    saving_rounds: int
    listed_variables: int
    large_checkpoint: int
    sharded_checkpoint: int
    tensors: int
    tensor: tuple[int, ...]
    checkpoint_rounds: int
    listed_rounds: int


FULL = Settings(
    leaves=(100, 800, 5000),
    tree_rounds=100,
    sample_seconds=0.01,
    trace_blocks=(24, 48),
    trace_rounds=15,
    program_blocks=48,
    repeated_blocks=48,
    repeated_declares=100,
    planned_blocks=128,
    planning_rounds=3,
    matrix_operation=None,
    gradients=("T5", "S5", "dropouts"),
    gradients_small=False,
    gradient_rounds=9,
    step_rounds=60,
    init_blocks=(12, 48),
    init_rounds=3,
    growth_blocks=(12, 96),
    growth_rounds=3,
    start_rounds=15,
    saved_arrays=((4, 64 << 20), (4, 8 << 20), (100, 1 << 20), (2000, 4 << 10)),
    saving_rounds=5,
    listed_variables=10_000,
    large_checkpoint=4 << 30,
    sharded_checkpoint=256 << 20,
    tensors=200,
    tensor=(1280, 1024),
    checkpoint_rounds=9,
    listed_rounds=7,
)

QUICK = Settings(
    leaves=(100, 800),
    tree_rounds=9,
    sample_seconds=0.001,
    trace_blocks=(2, 4),
    trace_rounds=2,
    program_blocks=2,
    repeated_blocks=2,
    repeated_declares=24,
    planned_blocks=8,
    planning_rounds=1,
    matrix_operation="create",
    gradients=("dropouts",),
    gradients_small=False,
    gradient_rounds=2,
    step_rounds=9,
    init_blocks=(2,),
    init_rounds=1,
    growth_blocks=(2, 4),
    growth_rounds=1,
    start_rounds=1,
    saved_arrays=((4, 8 << 20), (20, 1 << 20), (200, 4 << 10)),
    saving_rounds=3,
    listed_variables=500,
    large_checkpoint=64 << 20,
    sharded_checkpoint=64 << 20,
    tensors=20,
    tensor=(512, 512),
    checkpoint_rounds=3,
    listed_rounds=1,
)

SMOKE = Settings(
    leaves=(20,),
    tree_rounds=2,
    sample_seconds=0,
    trace_blocks=(1,),
    trace_rounds=1,
    program_blocks=1,
    repeated_blocks=1,
    repeated_declares=23,
    planned_blocks=1,
    planning_rounds=1,
    matrix_operation="assign, bare",
    gradients=("dropouts",),
    gradients_small=True,
    gradient_rounds=1,
    step_rounds=1,
    init_blocks=(1,),
    init_rounds=1,
    growth_blocks=(1, 2),
    growth_rounds=1,
    start_rounds=1,
    saved_arrays=((2, 4 << 10),),
    saving_rounds=1,
    listed_variables=3,
    large_checkpoint=4 << 20,
    sharded_checkpoint=1 << 20,
    tensors=2,
    tensor=(10, 10),
    checkpoint_rounds=1,
    listed_rounds=1,
)
