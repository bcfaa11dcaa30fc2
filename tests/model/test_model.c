// The model as a whole: rates of decay, sizes that the papers give, names, initial values, costs
// and ten steps of training whose losses are known.
#include "made_model.h"
#include "model/internal.h"
#include "tensor/optim.h"

Test(model, ids_outside_of_the_vocabulary_are_refused) {
    const char *ids[] = {"model.pad_id=10", "model.bos_id=99", "model.eos_id=10"};
    for (int i = 0; i < 3; i++) {
        Model m;
        ModelConfig cfg;
        char settings[256];
        snprintf(settings, sizeof settings, "model.preset=tnl-tiny model.vocab=10 %s", ids[i]);
        cr_assert_eq(made_config(&cfg, settings), OK);
        cr_assert_eq(model_open(&m, &cfg, NULL), E_USAGE);
        cr_assert_not_null(strstr(err_message(), ids[i]), "%s", err_message());
        model_close(&m);
    }
}

// ---- decay -------------------------------------------------------------------------------------

Test(decay, of_eight_heads_halves_from_head_to_head) {
    double s[8];
    lightning_decay(s, 8, 0, 24);
    for (int h = 0; h < 8; h++) {
        cr_assert_float_eq(s[h], pow(2, -(h + 1)) * 1.00001, 1e-15, "head %d: %g", h, s[h]);
    }
}

Test(decay, of_twelve_heads_goes_on_with_the_odd_ones_of_sixteen) {
    const double rest[] = {0.70710678118654752, 0.35355339059327376, 0.17677669529663688,
                           0.08838834764831845};
    double s[12];
    lightning_decay(s, 12, 0, 2);
    for (int h = 0; h < 8; h++) cr_assert_float_eq(s[h], pow(2, -(h + 1)) * 1.00001, 1e-15);
    for (int h = 0; h < 4; h++) cr_assert_float_eq(s[8 + h], rest[h] * 1.00001, 1e-12);
}

Test(decay, of_one_three_and_thirty_two_heads) {
    double one[1], three[3], many[32];
    lightning_decay(one, 1, 0, 2);
    cr_assert_float_eq(one[0], 1.00001 / 256, 1e-15);
    lightning_decay(three, 3, 0, 2);  // 2^-4, 2^-8, then the first of four: 2^-2
    cr_assert_float_eq(three[0], 1.00001 / 16, 1e-15);
    cr_assert_float_eq(three[1], 1.00001 / 256, 1e-15);
    cr_assert_float_eq(three[2], 1.00001 / 4, 1e-15);
    lightning_decay(many, 32, 0, 2);
    cr_assert_float_eq(many[0], pow(2, -0.25) * 1.00001, 1e-12);
    cr_assert_float_eq(many[31], 1.00001 / 256, 1e-15);
}

Test(decay, falls_with_depth_to_almost_nothing) {
    double s[8];
    lightning_decay(s, 8, 12, 25);
    cr_assert_float_eq(s[0], 0.5 * 0.50001, 1e-15);
    lightning_decay(s, 8, 24, 25);
    cr_assert_float_eq(s[0], 0.5e-5, 1e-15);
    cr_assert_float_eq(s[7], 1e-5 / 256, 1e-20);
}

Test(decay, of_a_single_layer_is_that_of_a_first) {
    double s[2];
    lightning_decay(s, 2, 0, 1);
    cr_assert_float_eq(s[0], 1.00001 / 16, 1e-15);
}

// Depth counts all layers, those without a state too.
Test(decay, of_a_hybrid_counts_softmax_layers) {
    Model m;
    made_model(&m, "model.width=8 model.heads=2 model.layers=3 model.pattern=LNL model.ffn=4 "
                   "model.vocab=5");
    cr_assert_float_eq(lightning_rates(&m.layers[0])[0], 1.00001 / 16, 1e-15);
    cr_assert_float_eq(lightning_rates(&m.layers[2])[0], 1e-5 / 16, 1e-15);
    model_close(&m);
}

// ---- parameters --------------------------------------------------------------------------------

static size_t parameters_of(const char *settings) {
    ModelConfig cfg;
    Model m;
    cr_assert_eq(made_config(&cfg, settings), OK);
    cr_assert_eq(model_open(&m, &cfg, NULL), OK);
    size_t count = model_parameters(&m);
    model_close(&m);
    return count;
}

Test(model, presets_have_the_published_sizes) {
    cr_assert_eq(parameters_of("model.preset=tnl-385m"), 398984192);
    cr_assert_eq(parameters_of("model.preset=tnl-1b"), 1020266496);
    cr_assert_eq(parameters_of("model.preset=tnl-7b"), 6836719616);
    cr_assert_eq(parameters_of("model.preset=tnl-385m model.tied=false"), 398984192 + 65536000);
}

static void expect_shape(const Model *m, const char *name, int rows, int cols) {
    const Param *p = params_find(&m->params, name);
    cr_assert_not_null(p, "no parameter %s", name);
    cr_assert(p->dim[0] == rows && (p->ndim == 1 || p->dim[p->ndim - 1] == cols), "%s", name);
}

Test(model, parameters_carry_the_names_of_the_published_checkpoints) {
    Model m;
    made_model(&m, "model.width=12 model.heads=2 model.kv_heads=1 model.layers=2 model.pattern=LN "
                   "model.ffn=5 model.vocab=7 model.tied=false");
    expect_shape(&m, "model.embed_tokens.weight", 7, 12);
    expect_shape(&m, "model.layers.0.token_mixer.qkvu_proj.weight", 48, 12);
    expect_shape(&m, "model.layers.0.token_mixer.out_proj.weight", 12, 12);
    expect_shape(&m, "model.layers.0.token_mixer.lrpe.theta", 2, 6);
    expect_shape(&m, "model.layers.0.channel_mixer.l1.weight", 5, 12);
    expect_shape(&m, "model.layers.0.channel_mixer.l2.weight", 5, 12);
    expect_shape(&m, "model.layers.0.channel_mixer.l3.weight", 12, 5);
    expect_shape(&m, "model.layers.1.token_mixer.q_proj.weight", 12, 12);
    expect_shape(&m, "model.layers.1.token_mixer.k_proj.weight", 6, 12);
    expect_shape(&m, "lm_head.weight", 7, 12);
    cr_assert_null(params_find(&m.params, "model.layers.1.token_mixer.lrpe.theta"));
    cr_assert_not(params_find(&m.params, "model.layers.0.token_mixer.lrpe.theta")->decay);
    cr_assert_null(params_find(&m.params, "model.norm.weight"));
    model_close(&m);
    made_model(&m, "model.family=llama model.pattern=N model.width=12 model.heads=2 model.layers=1 "
                   "model.ffn=5 model.vocab=7");
    expect_shape(&m, "model.layers.0.self_attn.o_proj.weight", 12, 12);
    expect_shape(&m, "model.layers.0.mlp.down_proj.weight", 12, 5);
    expect_shape(&m, "model.layers.0.input_layernorm.weight", 12, 0);
    expect_shape(&m, "model.norm.weight", 12, 0);
    cr_assert_null(params_find(&m.params, "lm_head.weight"));
    cr_assert_not(params_find(&m.params, "model.norm.weight")->decay);
    model_close(&m);
}

Test(model, starts_with_a_zero_pad_row) {
    Model m;
    made_model(&m, "model.width=4 model.heads=1 model.layers=1 model.ffn=4 model.vocab=6 "
                   "model.pad_id=3");
    const Param *embed = &m.params.rows[m.embed];
    for (int i = 0; i < 24; i++) cr_assert_eq(embed->data[i] == 0, i / 4 == 3);
    model_close(&m);
}

// Six a parameter: two forward, four backward. The lookup costs nothing, the head does.
Test(model, costs_count_the_head_but_not_the_lookup) {
    Model m;
    const char *shape = "model.width=4 model.heads=1 model.layers=1 model.ffn=4 model.vocab=6 "
                        "model.lrpe=none model.tied=%s";
    for (int tied = 0; tied < 2; tied++) {
        char settings[256];
        snprintf(settings, sizeof settings, shape, tied ? "true" : "false");
        made_model(&m, settings);
        cr_assert_float_eq(model_flops_per_token(&m), 6.0 * (5 * 16 + 3 * 16 + 24), 1e-9);
        model_close(&m);
    }
}

// ---- forward -----------------------------------------------------------------------------------

// Loss, losses of single tokens and logits say the same.
Test(model, losses_are_those_of_the_logits) {
    Model m;
    made_model(&m, "model.width=12 model.heads=2 model.layers=2 model.pattern=LN model.ffn=8 "
                   "model.vocab=11 model.init_std=0.4");
    enum { B = 2, T = 9, V = 11 };
    MadeBatch b = made_batch(B, T, V, true);
    double losses[B * T], sum = 0;
    Tape *tp = tape_new();
    tape_dry(tp, false);
    model_loss(tp, &m, &b.b, losses);
    cr_assert_eq(tape_reserve(tp), OK);
    tape_begin(tp, false);
    double loss = tensor_item(model_loss(tp, &m, &b.b, losses));
    tape_free(tp);
    real *logits = made_forward(&m, &b.b, NULL, true);
    for (int i = 0; i < B * T; i++) {
        double total = 0, wanted = 0;
        for (int v = 0; v < V; v++) total += exp((double)logits[i * V + v]);
        if (b.targets[i] >= 0) wanted = log(total) - (double)logits[i * V + b.targets[i]];
        cr_assert_float_eq(losses[i], wanted, 1e-4, "token %d: %g, not %g", i, losses[i], wanted);
        sum += losses[i];
    }
    cr_assert_float_eq(loss, sum, 1e-9 * sum);
    cr_assert_float_eq(made_loss(&m, &b.b, true), loss, 1e-5 * loss);
    free(logits);
    made_batch_free(&b);
    model_close(&m);
}

typedef struct Sites {
    char names[1024];
} Sites;

static void note_site(Site site, int layer, Tensor *x, void *user) {
    Sites *s = user;
    size_t n = strlen(s->names);
    cr_assert_not_null(x->data);
    snprintf(s->names + n, sizeof s->names - n, "%s:%d ", site_name(site), layer);
}

Test(model, names_the_places_it_passes) {
    Model m;
    made_model(&m, "model.width=4 model.heads=1 model.layers=2 model.pattern=LN model.ffn=4 "
                   "model.vocab=6");
    MadeBatch b = made_batch(1, 3, 6, false);
    Sites sites = {""};
    Tape *tp = tape_new();
    tape_dry(tp, false);
    model_logits(tp, &m, &b.b, NULL);
    cr_assert_eq(tape_reserve(tp), OK);
    tape_at_sites(tp, note_site, &sites);
    tape_begin(tp, false);
    model_logits(tp, &m, &b.b, NULL);
    cr_assert_str_eq(sites.names,
                     "residual_in:0 query:0 key:0 value:0 head_out:0 mixer_out:0 mlp_out:0 "
                     "residual_out:0 residual_in:1 query:1 key:1 value:1 head_out:1 mixer_out:1 "
                     "mlp_out:1 residual_out:1 logits:-1 ");
    tape_free(tp);
    made_batch_free(&b);
    model_close(&m);
}

// Ten steps on one batch, loss a token. Any change of initialisation, forward, backward or
// optimiser moves these numbers: whoever changes them means to.
Test(model, ten_steps_of_training_give_the_known_losses) {
    static const double KNOWN[10] = {2.615978861882, 2.548672560464, 2.437739053669, 2.338445882535,
                                     2.249999477290, 2.184374515579, 2.115024271534, 2.061797718576,
                                     2.012339844527, 1.961466954883};
    const double tolerance = GRADCHECK_RUNS ? 1e-9 : 2e-4;
    Model m;
    made_model(&m, "model.width=16 model.heads=2 model.kv_heads=1 model.layers=3 model.pattern=LNL "
                   "model.ffn=12 model.vocab=13 model.init_std=0.1");
    MadeBatch b = made_batch(2, 21, 13, true);
    Range all = {0, m.params.total};
    OptimConfig cfg = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
    Optim o;
    cr_assert_eq(optim_open(&o, &cfg, &all, 1), OK);
    for (int step = 1; step <= 10; step++) {
        double loss = made_loss(&m, &b.b, true) / (double)b.b.valid;
        cr_expect_float_eq(loss, KNOWN[step - 1], tolerance, "step %d: %.12f", step, loss);
        optim_update(&o, &m.params, step, 3e-3, 1.0 / (double)b.b.valid);
    }
    optim_close(&o);
    made_batch_free(&b);
    model_close(&m);
}
