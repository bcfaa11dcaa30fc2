// Gradients of whole models, embedding to loss, against central differences of the loss, for every
// parameter; and recomputation, which must not change a bit of them.
#include "made_model.h"

#define SMALL "model.width=12 model.ffn=10 model.vocab=11 model.init_std=0.3 model.block=4 "
#define GROUPED SMALL "model.layers=3 model.heads=2 model.kv_heads=1 "

// One tape serves all evaluations of a loss.
typedef struct Problem {
    Model *m;
    const Batch *b;
    Tape *tape;
} Problem;

static double problem_loss(void *ctx) {
    const Problem *p = ctx;
    tape_begin(p->tape, false);
    return tensor_item(model_loss(p->tape, p->m, p->b, NULL));
}

static void check_all(const char *settings, int B, int T) {
    if (!GRADCHECK_RUNS) cr_skip_test("differences of floats say little: see the f64 build");
    Model m;
    made_model(&m, settings);
    MadeBatch b = made_batch(B, T, m.cfg.vocab, true);
    Problem problem = {&m, &b.b, tape_new()};
    tape_dry(problem.tape, false);
    model_loss(problem.tape, &m, &b.b, NULL);
    cr_assert_eq(tape_reserve(problem.tape), OK);
    made_loss(&m, &b.b, true);
    real *grad = numbers_copy(m.params.grad, m.params.total);
    for (int i = 0; i < m.params.count; i++) {
        const Param *p = &m.params.rows[i];
        double error =
            gradcheck(p->name, problem_loss, &problem, p->data, grad + p->offset, p->count);
        cr_expect_leq(error, GRADCHECK_TOLERANCE, "%s: %s is off by %g", settings, p->name, error);
        double largest = 0;
        for (size_t j = 0; j < p->count; j++) largest = fmax(largest, fabs((double)p->grad[j]));
        cr_expect_gt(largest, 1e-3, "%s: %s has hardly a gradient: %g", settings, p->name, largest);
    }
    tape_free(problem.tape);
    free(grad);
    made_batch_free(&b);
    model_close(&m);
}

Test(gradients, of_a_tied_hybrid) {
    check_all(GROUPED "model.pattern=LNL model.tied=true model.pad_id=-1", 2, 19);
}

Test(gradients, of_an_untied_hybrid) {
    check_all(GROUPED "model.pattern=LNL model.tied=false model.pad_id=-1", 2, 19);
}

Test(gradients, of_a_hybrid_with_a_window) {
    check_all(GROUPED "model.pattern=LWN model.window=3 model.tied=false model.pad_id=-1", 2, 19);
}

Test(gradients, with_position_codes_in_every_layer_and_an_odd_number_of_heads) {
    check_all("model.width=12 model.ffn=10 model.vocab=11 model.init_std=0.6 model.block=4 "
              "model.layers=2 model.heads=3 model.lrpe=all model.scale_embedding=false "
              "model.pad_id=-1",
              3, 7);
}

Test(gradients, of_a_llama) {
    check_all(GROUPED "model.family=llama model.pattern=N model.tied=false model.pad_id=-1", 2, 19);
    check_all(GROUPED "model.family=llama model.pattern=NWL model.window=4 model.pad_id=-1", 1, 13);
}

Test(gradients, of_one_layer_and_one_token) {
    check_all(SMALL "model.layers=1 model.heads=1 model.pad_id=-1", 3, 2);
}

// The pad row of an untied embedding learns nothing; that of a tied one learns as an output.
Test(gradients, of_the_pad_row_come_through_the_head_alone) {
    for (int tied = 0; tied < 2; tied++) {
        Model m;
        made_model(&m, tied ? GROUPED "model.pad_id=3" : GROUPED "model.tied=false model.pad_id=3");
        MadeBatch b = made_batch(2, 19, m.cfg.vocab, true);
        for (int i = 0; i < 38; i += 3) b.tokens[i] = 3;
        made_loss(&m, &b.b, true);
        const Param *embed = &m.params.rows[m.embed];
        double sum = 0;
        for (int c = 0; c < m.cfg.width; c++) sum += fabs((double)embed->grad[3 * m.cfg.width + c]);
        cr_assert_eq(sum > 0, tied == 1, "tied=%d: %g", tied, sum);
        made_batch_free(&b);
        model_close(&m);
    }
}

static void check_recompute(const char *settings) {
    Model m;
    made_model(&m, settings);
    MadeBatch b = made_batch(2, 19, m.cfg.vocab, true);
    m.cfg.recompute = false;
    double loss = made_loss(&m, &b.b, true);
    real *grad = numbers_copy(m.params.grad, m.params.total);
    m.cfg.recompute = true;
    double again = made_loss(&m, &b.b, true);
    cr_assert_eq(loss, again, "%s: %.17g and %.17g", settings, loss, again);
    cr_assert_eq(memcmp(grad, m.params.grad, m.params.total * sizeof(real)), 0, "%s", settings);
    free(grad);
    made_batch_free(&b);
    model_close(&m);
}

Test(gradients, do_not_change_a_bit_with_recomputation) {
    check_recompute(GROUPED "model.pattern=LNL");
    check_recompute(GROUPED "model.pattern=LWN model.window=3 model.tied=false model.lrpe=all");
    check_recompute(GROUPED "model.family=llama model.pattern=N");
}

// Losses count valid targets alone: an ignored one changes neither loss nor gradients.
Test(gradients, know_no_ignored_target) {
    Model m;
    made_model(&m, GROUPED "model.pattern=LNL");
    MadeBatch b = made_batch(1, 7, m.cfg.vocab, false);
    for (int t = 0; t < 7; t++) b.targets[t] = IGNORE_TARGET;
    cr_assert_eq(made_loss(&m, &b.b, true), 0);
    for (size_t i = 0; i < m.params.total; i++) cr_assert_eq(m.params.grad[i], 0);
    made_batch_free(&b);
    model_close(&m);
}
