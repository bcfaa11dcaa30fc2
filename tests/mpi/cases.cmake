# How many ranks: a case runs on each in release. Other builds look for what memory holds, or what the type of a real changes, not for
# ranks once more: one rank and an odd number, and grids of few ranks under the sanitizers. What is counted (exchanges), or compared
# within the same limits (twenty steps), is so in release.
set(ranks 1 2 3 4)
set(ranks_3 1 2 3)
set(grids 1 2 3 4 6 8)
set(many 8)
if(NOT STERNA_LONG AND (STERNA_SANITIZE OR STERNA_F64))
  set(ranks 1 3)
  set(ranks_3 1 3)
endif()
if(NOT STERNA_LONG AND STERNA_SANITIZE)
  set(grids 1 2 4)
  set(many "")
endif()

sterna_mpi_test(corpus_same_for_any_ranks 1 2 3)
sterna_mpi_test(corpus_is_reused 1 2)
sterna_mpi_test(corpus_takes_a_tokenizer 2)
sterna_mpi_test(corpus_holds_out_by_size 1 3)
sterna_mpi_test(corpus_failure_reaches_all_ranks 2 3)
sterna_mpi_test(corpus_from_embedded_sample 2)
# Cases that must take all ranks down with code 70.
function(sterna_mpi_panic case)
  foreach(k ${ARGN})
    add_test(NAME mpi.${case}.n${k} COMMAND bash -c "out=$(${MPIEXEC_EXECUTABLE} -n ${k} \
$<TARGET_FILE:mpi_case> ${case} 2>&1 </dev/null); code=$?; echo \"$out\"; test $code -eq 70 && grep -q '${PANIC_TEXT}' <<<\"$out\"")
    sterna_test(mpi.${case}.n${k} 60)
  endforeach()
endfunction()

# parallel
foreach(case agree_spreads_the_failing_ranks_message agree_prefers_the_worst_then_the_lowest mesh_places_ranks
    mesh_refuses_what_does_not_fit sums_fold_in_rank_order integers_sum_and_max bytes_arrive_whatever_the_sizes
    counters_grow_by_what_is_sent reducer_equals_naive_sum reducer_cuts_huge_rows reducer_takes_an_empty_set
    reducer_runs_beside_other_collectives)
  sterna_mpi_test(${case} ${ranks})
endforeach()
sterna_mpi_test(other_builds_and_commands_are_named 2 3)
sterna_mpi_test(what_ranks_were_told_is_compared 3)
set(PANIC_TEXT "rank [12] has")
sterna_mpi_panic(panic_when_weights_differ 2 3)
if(STERNA_SANITIZE MATCHES address)  # collectives are compared in debug builds only
  set(PANIC_TEXT "rank 1 waits in comm_sum_doubles")
  sterna_mpi_panic(panic_when_calls_differ 2 3)
  set(PANIC_TEXT "rank 0 waits in comm_barrier")
  sterna_mpi_panic(panic_when_a_rank_stays_away 2 3)
endif()

# checkpoints
foreach(case round_trip other_rank_count keeps_newest damage shape_mismatch save_fails_everywhere full_disk)
  sterna_mpi_test(checkpoint_${case} ${ranks_3})
endforeach()
sterna_mpi_test(checkpoint_unreadable 1 3)
sterna_mpi_test(checkpoint_newer 2)
sterna_mpi_test(checkpoint_prepared 2)
sterna_mpi_test(checkpoint_every_byte 1)
sterna_mpi_test(checkpoint_blocks ${ranks})
sterna_mpi_test(checkpoint_block_holes ${ranks_3})
sterna_mpi_test(checkpoint_export_weights 1 2)
sterna_mpi_test(checkpoint_not_finite_save 3)
sterna_mpi_test(checkpoint_not_finite_found 2)
sterna_mpi_test(checkpoint_other_type 2)
sterna_mpi_test(checkpoint_other_name 1)

# layouts: every grid of so many ranks inside one launch
foreach(case layouts_agree_on_gradients layouts_agree_on_a_llama)
  sterna_mpi_test(${case} ${grids})
endforeach()
sterna_mpi_test(layouts_agree_on_grouped_heads 2 4 ${many})
sterna_mpi_test(layouts_find_out_wrong_mixers 2)
sterna_mpi_test(loader_failure_reaches_all_ranks 2 3 4 ${many})
if(STERNA_LONG OR NOT (STERNA_SANITIZE OR STERNA_F64))
  sterna_mpi_test(layouts_agree_on_twenty_steps 1 2 3 4)
  sterna_mpi_test(exchanges_cost_what_is_written 2 3 4 8)
endif()

# evaluation
sterna_mpi_test(windows_are_documents_alone ${ranks})
sterna_mpi_test(windows_are_documents_alone_in_a_llama 4)
