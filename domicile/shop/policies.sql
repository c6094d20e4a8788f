-- What may be seen of a row in another region than its home. What is not named is withheld: phone and note here,
-- and every column that is added one day.

-- CREATE RESIDENCY POLICY abroad ON customers TO REGION ALL
--   CLEAR (id, country, tier, consent, created_at)
--   MASK  (name  = domicile.partial(name, 1),
--          email = domicile.pseudonym(email),
--          born  = domicile.generalize(born, 'year'))
--   WITH  (copy = true, insert = true);
select domicile.create_policy('abroad', 'customers',
    clear   => '{id, country, tier, consent, created_at}',
    masks   => '{"name":  "domicile.partial(name, 1)",
                 "email": "domicile.pseudonym(email)",
                 "born":  "domicile.generalize(born, ''year'')"}',
    options => '{"copy": true, "insert": true}');

-- An analyst counts those who agreed to be counted, and needs no names.
-- CREATE RESIDENCY POLICY analysis ON customers TO REGION ALL FOR ROLE analyst
--   ROWS  (consent)
--   CLEAR (id, country, tier, consent)
--   MASK  (born = domicile.generalize(born, 'decade'));
select domicile.create_policy('analysis', 'customers',
    roles => '{analyst}',
    rows  => 'consent',
    clear => '{id, country, tier, consent}',
    masks => '{"born": "domicile.generalize(born, ''decade'')"}');

-- Orders name nobody.
-- CREATE RESIDENCY POLICY abroad ON orders TO REGION ALL CLEAR (id, customer_id, placed_at, status, total);
select domicile.create_policy('abroad', 'orders', clear => '{id, customer_id, placed_at, status, total}');

-- CREATE RESIDENCY POLICY abroad ON order_items TO REGION ALL CLEAR (order_id, line, product_id, quantity, price);
select domicile.create_policy('abroad', 'order_items', clear => '{order_id, line, product_id, quantity, price}');
